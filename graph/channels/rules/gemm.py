"""Gemm sums over the inner axis of two matrices and adds a third."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.bias import add_to_bias
from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Read, Trace
from onnx_unipts.graph.nodes import input_at

__all__ = ["gemm"]


@RULES.register("Gemm")
def gemm(node: ir.Node, trace: Trace) -> None:
    """The second operand is the weight: one of its axes is read, the other leaves."""
    if node.attributes.get_int("transA", 0):
        raise CannotTraceError("its input is transposed")
    weight = trace.require_constant(node.inputs[1], "weight").astype(np.float64)
    rows, entering = trace.axes(node.inputs[0])
    reading, leaving = trace.axes(node.inputs[1])
    if node.attributes.get_int("transB", 0):
        reading, leaving, weight = leaving, reading, weight.T
    trace.pin([rows], "the rows of a matrix")
    trace.tie(entering, reading, "the channels that enter are not known")
    trace.give(node.outputs[0], (None, leaving))
    alpha, beta = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
    bias, added, sure = input_at(node, 2), np.zeros(1), np.ones(1, dtype=bool)
    if bias is not None:
        added, sure = _bias(trace, bias, leaving)
    values, known = (np.broadcast_to(a, len(weight)) for a in trace.known_along(node.inputs[0], 1))
    constant = ((weight == 0) | known[:, None]).all(axis=0)
    sums = alpha * (np.where(known, values, 0) @ weight) + beta * added
    trace.learn_along(node.outputs[0], 1, sums, constant & sure)
    if entering is None:
        return

    def absorb(constants: np.ndarray) -> None:
        add_to_bias(trace, node, 2, alpha / beta * (constants @ weight), leaving)

    able = beta != 0 and (bias is None or trace.constant(bias) is not None)
    zero = np.asarray(~weight.any(axis=1))
    trace.reads.append(Read(node, entering, zero, values, known, absorb if able else None))


def _bias(
    trace: Trace, bias: ir.Value, leaving: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    axes = trace.axes(bias)
    if not axes:
        constant = trace.constant(bias)
        return np.zeros(1) if constant is None else constant.reshape(1), np.array(
            [constant is not None]
        )
    trace.pin(axes[:-1], "the rows of a matrix")
    last = axes[-1]
    if last is not None and leaving is not None and len(last) != len(leaving):
        trace.pin([last], "added to all columns")
    else:
        trace.tie(leaving, last, "added to what stays")
    return trace.known_along(bias, len(axes) - 1)
