"""Choosing the targets of a model: one per float output, by its shape and its producer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import onnx_ir as ir

from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.shape_inference import with_inferred_shapes
from onnx_unipts.targets.compared import compared_values, is_compared
from onnx_unipts.targets.target import Kind, Target

__all__ = ["choose_targets"]

# Operators that pass class scores on without changing any of them.
RESHAPING = {"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast"}
# Those of them that leave the shape as it is.
KEEPING = {"Identity", "Cast"}
# Operators that end a model; the value is what enters them.
CLOSING: dict[str, Kind] = {
    "Softmax": "classes",
    "LogSoftmax": "classes",
    "Sigmoid": "probability",
}
# Operators that rank class scores along an axis, with the axis where they name none.
RANKING = {"ArgMax": 0, "TopK": -1}
# Operators that take class scores without saying along which axis.
SCORING = {"Normalizer", "QuantizeLinear", "ZipMap"}


def choose_targets(model: ir.Model, losses: Mapping[str, str] | None = None) -> list[Target]:
    """Return one target per float output of ``model``, chosen from its shape and its producer.

    An output that is none, or one of TopK, is distilled on the floats that it is made of: what
    enters ArgMax, TopK, NonMaxSuppression, QuantizeLinear, a comparison; and so is one that has
    another shape for every sample. Scalars are left out: they hold nothing about single samples;
    and so are stored tensors that are outputs. ``losses`` overrides the kind by the output's name:
    ``kl`` or ``mse``.

    Raises `UnsupportedModelError` if nothing is left, `UsageError` if ``losses`` names no output.
    """
    if any(map(_needs_inference, model.graph.outputs)):
        model = with_inferred_shapes(model)
    found = compared_values(model)
    if not found:
        names = ", ".join(str(output.name) for output in model.graph.outputs)
        raise UnsupportedModelError(f"no output is a float tensor that can be compared: {names}")
    fed = _first_axes(model)
    targets = [_target(output, fed) for output, value in found if value is output]
    known = {name for target in targets for name in (target.output, target.value)}
    for output, value in found:
        if value is not output and str(value.name) not in known:
            target = _inner(_target(value, fed), output, value)
            if target.value not in known:
                targets.append(target)
                known |= {target.value, str(value.name)}
    return _overridden(targets, losses or {})


def _needs_inference(output: ir.Value) -> bool:
    shape = output.shape
    unknown = shape is None or (len(shape) == 2 and not isinstance(shape[1], int))
    return unknown or _behind_reshaping(output) is not output or not is_compared(output)


def _first_axes(model: ir.Model) -> set[int]:
    """Return the lengths that the first axes of inputs are fixed to, but for those with a value."""
    fed = (value for value in model.graph.inputs if value.const_value is None)
    firsts = (value.shape[0] for value in fed if value.shape is not None and len(value.shape))
    return {first for first in firsts if isinstance(first, int)}


def _inner(target: Target, output: ir.Value, value: ir.Value) -> Target:
    """Make ``target`` one of a value inside, which holds class scores where something says so."""
    target = replace(target, output=str(output.name), inner=True, closing="", shape=None)
    readers = value.consumers()
    for node in readers:
        if node.op_type in RANKING:
            axis = node.attributes.get_int("axis", RANKING[node.op_type])
            return replace(target, kind="classes", axis=axis)
    if target.value == value.name and not any(node.op_type in SCORING for node in readers):
        return replace(target, kind="values")
    return target


def _overridden(targets: list[Target], losses: Mapping[str, str]) -> list[Target]:
    if unknown := set(losses) - {target.output for target in targets}:
        known = ", ".join(dict.fromkeys(target.output for target in targets))
        raise UsageError(f"--loss names {min(unknown)!r}; the outputs that are compared: {known}")
    return [
        _as_kind(target, losses[target.output]) if target.output in losses else target
        for target in targets
    ]


def _as_kind(target: Target, loss: str) -> Target:
    """Compare by mean squared error what the model puts out, or by KL the scores behind it."""
    if loss == "mse":
        value = target.value if target.inner else target.output
        return replace(target, value=value, kind="values", closing="", shape=None)
    if target.kind == "values":
        return replace(target, kind="classes")
    return target


def _target(output: ir.Value, fed: Collection[int]) -> Target:
    return _closed_target(output) or _open_target(output, fed)


def _closed_target(output: ir.Value) -> Target | None:
    """Return the target before the operator that closes the model, None without such."""
    closed = _behind_reshaping(output)
    node = closed.producer()
    if node is None or node.op_type not in CLOSING or node.inputs[0] is None:
        return None
    same, shape = _sample_shapes(closed, output)
    if not same and shape is None:
        return None  # how the output is made of the value is not known
    return Target(
        str(output.name),
        str(node.inputs[0].name),
        CLOSING[node.op_type],
        node.attributes.get_int("axis", _default_axis(node)),
        closing=node.op_type,
        shape=None if same else shape,
    )


def _default_axis(node: ir.Node) -> int:
    """Before opset 13, Softmax and LogSoftmax took the second axis and all behind it."""
    opset = node.graph.opset_imports.get("", 13) if node.graph is not None else 13
    return 1 if opset < 13 and node.op_type != "Sigmoid" else -1


def _open_target(output: ir.Value, fed: Collection[int]) -> Target:
    name = str(output.name)
    return Target(name, name, "classes" if _is_rows(output.shape, fed) else "values")


def _is_rows(shape: ir.Shape | None, fed: Collection[int]) -> bool:
    """Tell whether ``shape`` is that of a row of several numbers for each sample.

    Not if its first axis has a length of its own, and what may be the samples stands behind.
    """
    if shape is None or len(shape) != 2:
        return False
    first, second = shape
    return second != 1 and (isinstance(second, int) or not isinstance(first, int) or first in fed)


def _sample_shapes(closed: ir.Value, output: ir.Value) -> tuple[bool, tuple[int, ...] | None]:
    """Say whether a sample of ``output`` has the shape of one of ``closed``; return the latter."""
    if closed is _behind(output, KEEPING):
        return True, None
    if closed.shape is None:
        return False, None
    dims = list(closed.shape)[1:]
    same = output.shape is not None and dims == list(output.shape)[1:]
    static = tuple(dim for dim in dims if isinstance(dim, int))
    return same, static if len(static) == len(dims) else None


def _behind_reshaping(value: ir.Value) -> ir.Value:
    return _behind(value, RESHAPING)


def _behind(value: ir.Value, passed: Collection[str]) -> ir.Value:
    """Return what ``value`` was before the operators called ``passed``."""
    producer = value.producer()
    while producer is not None and producer.op_type in passed and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return value
