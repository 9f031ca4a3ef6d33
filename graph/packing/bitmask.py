"""bitmask: one bit per element, and the values behind one another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.graph.packing.decoder import Decoder
from onnx_unipts.graph.packing.encoding import ENCODINGS, Parts, Zeros, is_stored, require

__all__ = ["Bitmask"]

# The running sum takes a step per row, a start of four bytes per column: this many are cheap.
COLUMNS = 128
BYTE = 8


@ENCODINGS.register("bitmask")
class Bitmask:
    """Parts ``c``, uint8 (rows, columns / 8): the mask; ``b``, int32 (1, columns): the starts.

    The flat tensor is a matrix of rows x columns. Its values stand in ``v`` column by column,
    behind one zero, which is what the elements that are not set refer to.
    """

    def encode(self, flat: np.ndarray) -> Parts | None:
        """Return the parts of ``flat``; None where its size is no whole number of bytes."""
        columns = _columns(flat.size)
        if not columns:
            return None
        matrix = flat.reshape(-1, columns)
        mask = is_stored(matrix)
        starts = np.cumsum(mask.sum(axis=0)) - mask.sum(axis=0)
        return {
            "c": np.packbits(mask, axis=1, bitorder="little"),
            "b": starts.astype(np.int32)[np.newaxis],
            "v": np.concatenate([np.zeros(1, flat.dtype), matrix.T[mask.T]]),
        }

    def decode(self, parts: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        """Return the flat tensor; raises `BrokenPartsError`."""
        packed, starts, values = parts["c"], parts["b"], parts["v"]
        require(packed.dtype == np.uint8, f"mask of type {packed.dtype}, not uint8")
        require(packed.ndim == 2, f"mask of {packed.ndim} axes, not 2")
        require(packed.size * BYTE == size, f"{packed.size * BYTE} bits for {size} elements")
        mask = np.unpackbits(packed, axis=1, bitorder="little").astype(bool)
        counts = mask.sum(axis=0)
        require(values.ndim == 1, f"values of shape {values.shape}, not one axis")
        require(
            len(values) == 1 + int(counts.sum()),
            f"{len(values)} values for a zero and {int(counts.sum())} bits",
        )
        require(not is_stored(values[:1]).any(), "the value before the first is not zero")
        expected = (np.cumsum(counts) - counts)[np.newaxis]
        require(starts.dtype == np.int32, f"starts of type {starts.dtype}, not int32")
        require(np.array_equal(starts, expected), "the starts are not those of the mask")
        matrix = np.zeros(mask.shape, values.dtype)
        matrix.T[mask.T] = values[1:]
        return matrix.reshape(-1)

    def variants(self) -> list[frozenset[str]]:
        """Return the parts that tell where values go."""
        return [frozenset({"c", "b"})]

    def build(self, decoder: Decoder, parts: frozenset[str], values: str, zeros: Zeros) -> str:
        """Look every byte up in a table of bits, number the bits set, and gather the values."""
        int32 = 6
        bytes_ = decoder.add("Cast", decoder.part("c"), to=int32)
        table = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1)[:, ::-1]
        bits = decoder.add("Cast", decoder.constant("bits", table.copy()), shared="table", to=int32)
        bits = decoder.add("Gather", bits, bytes_)
        rows = decoder.constant("rows", np.array([0, -1], np.int64))
        bits = decoder.add("Reshape", bits, rows)
        numbers = decoder.add("CumSum", bits, decoder.constant("axis", np.array(0, np.int64)))
        numbers = decoder.add("Add", numbers, decoder.part("b"))
        numbers = decoder.add("Mul", numbers, bits)
        return decoder.add("Gather", values, numbers)


def _columns(size: int) -> int:
    """Return the multiple of eight nearest to `COLUMNS` that divides ``size``; 0 if none does."""
    if not size or size % BYTE:
        return 0
    divisors = [b for b in range(BYTE, 8 * COLUMNS + 1, BYTE) if size % b == 0]
    return min(divisors, key=lambda b: abs(np.log(b / COLUMNS)))
