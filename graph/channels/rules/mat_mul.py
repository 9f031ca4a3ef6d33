"""MatMul sums over the last axis of its first and the second last of its second operand."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.bias import add_to_bias, following_bias
from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Read, Trace

__all__ = ["mat_mul"]


@RULES.register("MatMul")
def mat_mul(node: ir.Node, trace: Trace) -> None:
    """Rows of the first and columns of the second operand are what leaves."""
    left, right = node.inputs
    first, second = trace.axes(left), trace.axes(right)
    if left is None or right is None or len(first) < 2 or len(second) < 2:
        raise CannotTraceError("an operand is a vector")
    trace.tie(first[-1], second[-2], "summed over with an axis whose positions stay")
    if len(second) == 2 or len(first) == 2:
        batch = first[:-2] or second[:-2]
    elif len(first) == len(second):
        batch = tuple(_batch(trace, a, b) for a, b in zip(first[:-2], second[:-2], strict=True))
    else:
        raise CannotTraceError("its operands have different numbers of axes")
    trace.give(node.outputs[0], (*batch, first[-2], second[-1]))
    if trace.constant(right) is not None and len(second) == 2:
        _by_matrix(node, trace)
    elif first[-1] is not None:
        _between_activations(node, trace)


def _batch(trace: Trace, left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray | None:
    if left is not None and right is not None and len(left) != len(right):
        raise CannotTraceError("one operand is repeated along an axis")
    trace.tie(left, right, "the other operand keeps this axis")
    return left if right is not None else None


def _by_matrix(node: ir.Node, trace: Trace) -> None:
    left, right = node.inputs
    assert left is not None
    assert right is not None
    matrix = trace.require_constant(right, "matrix").astype(np.float64)
    entering = trace.axes(left)[-1]
    axis = trace.rank(left) - 1
    values, known = (np.broadcast_to(a, len(matrix)) for a in trace.known_along(left, axis))
    constant = ((matrix == 0) | known[:, None]).all(axis=0)
    sums = np.where(known, values, 0) @ matrix
    trace.learn_along(node.outputs[0], trace.rank(node.outputs[0]) - 1, sums, constant)
    if entering is None:
        return
    bias = following_bias(node, trace)

    def absorb(constants: np.ndarray) -> None:
        assert bias is not None
        add_to_bias(trace, *bias, constants @ matrix, trace.axes(node.outputs[0])[-1])

    able = absorb if bias is not None else None
    unread = np.asarray(~matrix.any(axis=1))
    trace.reads.append(Read(node, entering, unread, values, known, able))


def _between_activations(node: ir.Node, trace: Trace) -> None:
    """A position can go where either operand is zero."""
    left, right = node.inputs
    assert left is not None
    assert right is not None
    labels = trace.axes(left)[-1]
    assert labels is not None
    nothing = _zero_along(trace, left, -1) | _zero_along(trace, right, -2)
    values = np.zeros(len(labels))
    trace.reads.append(Read(node, labels, nothing, values, np.zeros(len(labels), dtype=bool)))


def _zero_along(trace: Trace, value: ir.Value, axis: int) -> np.ndarray:
    constant = trace.constant(value)
    if constant is not None:
        slices = np.moveaxis(constant, axis, 0).reshape(constant.shape[axis], -1)
        return np.asarray(~slices.any(axis=1))
    values, known = trace.known_along(value, trace.rank(value) + axis)
    return known & (values == 0)
