"""Operators that act on each element by itself, on one value or on several broadcast together."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.evaluation import evaluate
from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Trace
from onnx_unipts.graph.nodes import input_at

__all__ = ["broadcast", "unary"]

UNARY = (
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
)
BROADCAST = (
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
)
OWN = ("com.microsoft.Gelu", "com.microsoft.FastGelu", "com.microsoft.QuickGelu")


@RULES.register(*UNARY, *OWN)
def unary(node: ir.Node, trace: Trace) -> None:
    """The first input has the output's channels; further ones are the same for all elements."""
    value = node.inputs[0]
    trace.give(node.outputs[0], trace.axes(value))
    if any(v is not None and trace.rank(v) > 0 for v in node.inputs[1:]):
        raise CannotTraceError("a parameter differs by element")
    _learn(node, trace)


@RULES.register("Dropout")
def dropout(node: ir.Node, trace: Trace) -> None:
    """At inference the first output is the input."""
    mask = node.outputs[1] if len(node.outputs) > 1 else None
    if mask is not None and (mask.uses() or mask.is_graph_output()):
        raise CannotTraceError("its mask is used")
    training = input_at(node, 2)
    if training is not None and trace.require_constant(training, "mode").any():
        raise CannotTraceError("it is in training mode")
    value = node.inputs[0]
    trace.give(node.outputs[0], trace.axes(value))
    if value is not None and (known := trace.known(value)) is not None:
        trace.learn(node.outputs[0], known.values, known.mask)


@RULES.register(*BROADCAST)
def broadcast(node: ir.Node, trace: Trace) -> None:
    """Positions of equal index go together along every axis that is not repeated."""
    values = [value for value in node.inputs if value is not None]
    rank = max(map(trace.rank, values))
    axes = [(trace.axes(value), trace.dims(value)) for value in values]
    trace.give(
        node.outputs[0],
        [
            _common(trace, [(a[axis], d[axis]) for a, d in axes if len(a) >= -axis])
            for axis in range(-rank, 0)
        ],
    )
    _learn(node, trace)


def _common(
    trace: Trace, entries: list[tuple[np.ndarray | None, int | str | None]]
) -> np.ndarray | None:
    """Tie the labels of one axis over the operands; ``entries`` are labels and sizes."""
    repeated = [labels for labels, size in entries if size == 1]
    full = [labels for labels, size in entries if size != 1]
    if full:
        trace.pin(repeated, "repeated along this axis")
    first, *others = full or repeated
    for labels in others:
        trace.tie(first, labels, "meets positions that stay")
        first = first if labels is not None else None
    return first


def _learn(node: ir.Node, trace: Trace) -> None:
    """Compute the output from what is known of the inputs."""
    values = [value for value in node.inputs if value is not None]
    known = {value: found for value in values if (found := trace.known(value)) is not None}
    if len(known) < len(set(values)) or trace.constant(node.outputs[0]) is not None:
        return
    if node.domain or node.op_type == "Cast":
        return
    output = node.outputs[0]
    arrays = {value: found.values for value, found in known.items()}
    if any(array.dtype.kind == "f" for array in arrays.values()):
        arrays = {v: a.astype(np.float64) if a.dtype.kind in "iu" else a for v, a in arrays.items()}
    result = evaluate(node, arrays, trace.opset)
    if result is None or not np.isfinite(result[output]).all():
        return
    rank = result[output].ndim
    masks = [
        m.mask.reshape([1] * (rank - m.mask.ndim) + list(m.mask.shape)) for m in known.values()
    ]
    mask = np.ones(result[output].shape, dtype=bool)
    for each in masks:
        mask = mask & each
    trace.learn(output, result[output], mask)
