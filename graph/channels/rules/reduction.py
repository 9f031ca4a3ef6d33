"""Operators that run along some axes: those keep their positions, the others pass."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Trace
from onnx_unipts.graph.reductions import reduced_axes

__all__ = ["layer_normalization", "reduce", "softmax"]

KEEPING = ("ReduceMax", "ReduceMean", "ReduceMin")
ADDING = ("ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare")


@RULES.register(*KEEPING, *ADDING)
def reduce(node: ir.Node, trace: Trace) -> None:
    """A mean, a maximum and a minimum keep constants, a sum only zero."""
    value = node.inputs[0]
    axes = trace.axes(value)
    rank = len(axes)
    gone = reduced_axes(node, rank, trace.constant)
    if gone is None:
        raise CannotTraceError("its axes are computed")
    trace.pin([axes[axis] for axis in gone], "reduced along this axis")
    keep = node.attributes.get_int("keepdims", 1)
    left = [axis for axis in range(rank) if keep or axis not in gone]
    trace.give(node.outputs[0], [None if axis in gone else axes[axis] for axis in left])
    labelled = [axis for axis in left if axis not in gone and axes[axis] is not None]
    if len(labelled) != 1 or value is None:
        return
    values, known = trace.known_along(value, labelled[0])
    if node.op_type in ADDING:
        known = known & (values == 0)
    trace.learn_along(node.outputs[0], left.index(labelled[0]), values, known)


@RULES.register("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: ir.Node, trace: Trace) -> None:
    """All positions along its axis take part; before opset 13 those behind it do, too."""
    axes = trace.axes(node.inputs[0])
    older = trace.opset < 13
    axis = node.attributes.get_int("axis", 1 if older else -1) % len(axes)
    _along(node, trace, range(axis, len(axes)) if older else [axis])


@RULES.register("LayerNormalization", "RMSNormalization")
def layer_normalization(node: ir.Node, trace: Trace) -> None:
    """All axes from the given one on take part."""
    axes = trace.axes(node.inputs[0])
    first = node.attributes.get_int("axis", -1) % len(axes)
    for value in node.inputs[1:]:
        if value is not None:
            trace.pin(trace.axes(value), "normalised over this axis")
    _along(node, trace, range(first, len(axes)))


def _along(node: ir.Node, trace: Trace, taking_part: range | list[int]) -> None:
    axes = trace.axes(node.inputs[0])
    trace.pin([axes[axis] for axis in taking_part], "normalised over this axis")
    left: list[np.ndarray | None] = [
        None if axis in taking_part else labels for axis, labels in enumerate(axes)
    ]
    trace.give(node.outputs[0], left)
