"""What a model takes: the name, dtype and shape of each of its inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.lookups import compared_values, index_limits, read_sizes
from onnx_unipts.graph.sequence_inputs import sequence_of

__all__ = ["Dimension", "InputSpec", "input_signature", "parse_input_shapes"]

Dimension = int | str | None


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    ``shape`` holds an int for a static axis, the symbol's name or None for a dynamic one. The first
    axis is the sample axis; a ``whole`` input has none, all of it is one sample. Token ids, and
    whatever else indexes a table of the model, are below ``limit``; all of the input indexes one
    that has ``table`` rows. ``choice`` is a number that the model compares the input with.
    ``sequence`` names the model's input that this one is an element of, if that is a sequence.
    """

    name: str
    dtype: np.dtype
    shape: tuple[Dimension, ...]
    whole: bool = False
    limit: int | None = None
    table: int | None = None
    choice: int | None = None
    sequence: str = ""

    @property
    def sample_shape(self) -> tuple[Dimension, ...]:
        """The shape of one sample: all axes but the first, or all of a whole input."""
        return self.shape if self.whole else self.shape[1:]

    def __str__(self) -> str:
        axes = ", ".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name} ({self.dtype} [{axes}])"


def input_signature(
    model: ir.Model,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    whole: Collection[str] = (),
) -> list[InputSpec]:
    """Return the inputs of ``model`` that a caller must feed, in the graph's order.

    ``whole`` names those without a sample axis; dynamic axes of theirs that are called as the batch
    of another input are 1.

    Initializers that are also listed as inputs (IR version 3) are left out. ``shapes``, as
    `parse_input_shapes` returns it, fixes dynamic axes; a dynamic first axis stays dynamic, since
    samples run along it. Raises `UsageError` if ``shapes`` names an unknown input or contradicts a
    static axis, and if an input has no known number of axes; `UnsupportedModelError` if one is no
    tensor, such as an optional one.
    """
    values = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    given = _spread_shapes(dict(shapes or {}), values)
    names = [str(value.name) for value in values]
    for name in given:
        if name not in names:
            raise UsageError(
                f"--input-shape names {name!r}, but the model's inputs are {', '.join(names)}"
            )
    sizes = read_sizes(model)
    specs = [
        _sized(_spec(value, given.get(str(value.name))), sizes.get(str(value.name), {}))
        for value in values
    ]
    batches = {spec.shape[0] for spec in specs if spec.shape and spec.name not in whole}
    symbols = {symbol for symbol in batches if isinstance(symbol, str)}
    limits, choices = index_limits(model), compared_values(model)
    tables = index_limits(model, whole=True)
    return [
        replace(
            spec,
            shape=_single(spec.shape, symbols) if spec.name in whole else spec.shape,
            whole=spec.name in whole,
            limit=limits.get(spec.name),
            table=tables.get(spec.name),
            choice=choices.get(spec.name),
            sequence=sequence_of(value),
        )
        for spec, value in zip(specs, values, strict=True)
    ]


def _sized(spec: InputSpec, sizes: Mapping[int, int]) -> InputSpec:
    """Return ``spec`` with dynamic axes, but for the first, as long as the model's weights say."""
    shape = tuple(
        sizes.get(axis, dim) if axis and not isinstance(dim, int) else dim
        for axis, dim in enumerate(spec.shape)
    )
    return replace(spec, shape=shape)


def _single(shape: tuple[Dimension, ...], batches: Collection[str]) -> tuple[Dimension, ...]:
    return tuple(1 if axis in batches else axis for axis in shape)


def parse_input_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Parse ``name:1,3,224,224`` strings; the name may be left out for a model with one input.

    Returns the shape by input name, "" standing for the only input. Raises `UsageError` for
    anything but positive whole numbers, and for a name given twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        # Names of TensorFlow inputs end in ":0", so that only the last colon separates.
        name, _, numbers = text.strip().rpartition(":")
        parts = [part.strip() for part in numbers.split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise UsageError(
                f"--input-shape {text!r}: expected NAME:D0,D1,... with positive whole numbers, "
                "as in input:1,3,224,224"
            )
        if name in shapes:
            raise UsageError(f"--input-shape gives the shape of {name or 'the input'!r} twice")
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def _spread_shapes(
    shapes: Mapping[str, tuple[int, ...]], values: list[ir.Value]
) -> dict[str, tuple[int, ...]]:
    """Return ``shapes`` by input name: one for a sequence is that of each of its elements."""
    elements: dict[str, list[str]] = {}
    for value in values:
        elements.setdefault(sequence_of(value) or str(value.name), []).append(str(value.name))
    spread: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        known = name or _only_name(list(elements))
        spread |= dict.fromkeys(elements.get(known, [known]), shape)
    return spread


def _only_name(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    raise UsageError(
        f"--input-shape needs an input's name before the colon: the model has {len(names)} "
        f"inputs ({', '.join(names)})"
    )


def _spec(value: ir.Value, given: tuple[int, ...] | None) -> InputSpec:
    name = str(value.name)
    if not isinstance(value.type, ir.TensorType) or value.dtype is None:
        raise UnsupportedModelError(
            f"input {name!r} of the model is {_kind(value)}; only tensors of a known type and "
            "sequences of them can be fed: export the model with tensors as inputs"
        )
    dtype = np.dtype(value.dtype.numpy())
    if value.shape is None:
        if given is None:
            raise UsageError(
                f"input {name!r} of the model has no shape: give one, as in "
                f"--input-shape {name}:1,3,224,224"
            )
        return InputSpec(name, dtype, (None, *given[1:]))
    shape = tuple(_dimension(axis) for axis in value.shape)
    return InputSpec(name, dtype, shape if given is None else _fixed(name, shape, given))


def _kind(value: ir.Value) -> str:
    if isinstance(value.type, ir.OptionalType):
        return "optional"
    if isinstance(value.type, ir.SequenceType):
        return "a sequence of sequences"
    if "type_proto" in value.meta:
        return "a map or holds some"
    return "of an unknown type"


def _dimension(axis: int | ir.SymbolicDim) -> Dimension:
    if isinstance(axis, int):
        return axis if axis >= 0 else None  # some exporters write -1 for a dynamic axis
    return axis.value


def _fixed(
    name: str, shape: tuple[Dimension, ...], given: tuple[int, ...]
) -> tuple[Dimension, ...]:
    agrees = len(shape) == len(given) and all(
        not isinstance(axis, int) or axis == number
        for axis, number in zip(shape[1:], given[1:], strict=True)
    )
    if not agrees:
        axes = ", ".join("?" if axis is None else str(axis) for axis in shape)
        raise UsageError(
            f"--input-shape {name}:{','.join(map(str, given))} contradicts the model, whose input "
            f"{name!r} has the shape [{axes}]; only dynamic axes can be set"
        )
    return (*shape[:1], *given[1:])
