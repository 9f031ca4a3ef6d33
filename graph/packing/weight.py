"""One packed weight: how it is stored, and the decoding subgraph that follows from that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.packing.decoder import Decoder
from onnx_unipts.graph.packing.encoding import ENCODINGS, Parts, is_stored, require

__all__ = ["DTYPES", "HALF", "SHARED", "ZERO", "Form", "encoded", "forms"]

# What a tensor that is all zero, and one that is stored whole in half precision, go by.
ZERO = "zero"
HALF = "half"

# The parts that weights of the same shape have in common; what is all zero has its own shape, to
# keep its place among the initializers.
SHARED = ("s", "N")

# The element types that every runtime's ScatterElements and Gather take.
DTYPES = (
    ir.DataType.FLOAT,
    ir.DataType.FLOAT16,
    ir.DataType.DOUBLE,
    ir.DataType.INT8,
    ir.DataType.UINT8,
    ir.DataType.INT16,
    ir.DataType.INT32,
    ir.DataType.INT64,
)
HALVED = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
# Positions are int32 in the graph.
MOST_ELEMENTS = 2**31 - 1


@dataclass(frozen=True)
class Form:
    """The form of a packed weight: encoding, element type, the parts, whether values are float16.

    ``kind`` is the name of an encoding, `ZERO` or `HALF`. Beside the parts of the encoding there
    are ``s``, the shape, and where zeros are scattered into, ``N``, the number of elements.
    """

    kind: str
    dtype: ir.DataType
    parts: frozenset[str] = frozenset()
    half: bool = False

    @property
    def stored(self) -> ir.DataType:
        """The element type of the values in the file."""
        return ir.DataType.FLOAT16 if self.half else self.dtype

    def decoder(self) -> Decoder:
        """Return the description of the decoding subgraph; its last step makes the weight."""
        decoder = Decoder()
        if self.kind == ZERO:
            decoder.add("ConstantOfShape", decoder.part("s"), **self._fill())
            return decoder
        values = decoder.part("v")
        if self.half:
            values = decoder.add("Cast", values, to=int(self.dtype))
        if self.kind == HALF:
            return decoder

        def zeros() -> str:
            return decoder.add("ConstantOfShape", decoder.part("N"), shared="zeros", **self._fill())

        flat = ENCODINGS[self.kind]().build(decoder, self.parts, values, zeros)
        decoder.add("Reshape", flat, decoder.part("s"))
        return decoder

    def decode(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the weight. Raises `BrokenPartsError` where the parts do not fit each other."""
        dtype = self.dtype.numpy()
        if self.kind == HALF:
            return parts["v"].astype(dtype)
        shape = _shape(parts["s"])
        size = math.prod(shape)
        if self.kind == ZERO:
            return np.zeros(shape, dtype)
        if "N" in parts:
            count = parts["N"]
            require(count.dtype == np.int64 and count.shape == (1,), "no count of elements")
            require(int(count[0]) == size, f"{int(count[0])} elements for the shape {shape}")
        values = parts["v"]
        require(values.dtype == self.stored.numpy(), f"values of type {values.dtype}")
        return ENCODINGS[self.kind]().decode(parts, size).astype(dtype).reshape(shape)

    def _fill(self) -> dict[str, Any]:
        """The attribute of ConstantOfShape, whose default is a float32 zero."""
        float32 = self.dtype == ir.DataType.FLOAT
        return {} if float32 else {"value": np.zeros(1, self.dtype.numpy())}


def encoded(kind: str, array: np.ndarray, half: bool) -> tuple[Form, Parts] | None:
    """Return form and parts of ``array`` in the encoding ``kind``; None where it does not apply.

    With ``half``, float32 and float64 values are stored as float16. What is not zero stays so.
    """
    dtype = ir.DataType.from_numpy(array.dtype)
    half = half and dtype in HALVED
    flat = np.ascontiguousarray(array).reshape(-1)
    shape = np.array(array.shape, np.int64)
    if not is_stored(flat).any():
        return Form(ZERO, dtype), {"s": shape}
    if half:
        halved = _halved(flat)
        if halved is None:
            return None
        flat = halved
    if kind == HALF:
        return (Form(HALF, dtype, half=True), {"v": flat.reshape(array.shape)}) if half else None
    parts = ENCODINGS[kind]().encode(flat)
    if parts is None:
        return None
    form = Form(kind, dtype, frozenset(parts) - {"v"}, half)
    parts["s"] = shape
    if "N" in form.decoder().parts:
        parts["N"] = np.array([flat.size], np.int64)
    return form, parts


def forms(kind: str | None) -> Iterator[Form]:
    """Yield every form there is, of one ``kind``, or of all encodings where it is None."""
    if kind == ZERO:
        yield from (Form(ZERO, dtype) for dtype in DTYPES)
        return
    if kind == HALF:
        yield from (Form(HALF, dtype, half=True) for dtype in HALVED)
        return
    for name in ENCODINGS if kind is None else [kind]:
        for parts in ENCODINGS[name]().variants():
            yield from (Form(name, dtype, parts) for dtype in DTYPES)
            yield from (Form(name, dtype, parts, half=True) for dtype in HALVED)


def _shape(array: np.ndarray) -> tuple[int, ...]:
    require(array.dtype == np.int64 and array.ndim == 1, "no shape")
    shape = tuple(int(axis) for axis in array)
    require(all(axis >= 0 for axis in shape), f"a shape of {shape}")
    require(math.prod(shape) <= MOST_ELEMENTS, f"a shape of {shape}, too large to be packed")
    return shape


def _halved(flat: np.ndarray) -> np.ndarray | None:
    """Return ``flat`` as float16, nothing rounded to zero; None where a value is out of range."""
    with np.errstate(over="ignore", under="ignore"):
        half = flat.astype(np.float16)
    if not np.isfinite(half).all():
        return None
    lost = (half == 0) & (flat != 0)
    half[lost] = np.copysign(np.finfo(np.float16).smallest_subnormal, flat[lost])
    return half
