"""CumSum has no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["cum_sum"]


LONG = 4096  # elements along the axis


@RULES.register("CumSum")
def cum_sum(node: ir.Node, op: Builder) -> Result:
    """MatMul with a constant triangular matrix."""
    x, axis = op.inputs(2)
    shape = op.shape(x)
    where = int(op.constant(axis)) % len(shape)
    if shape[where] > LONG:
        return f"a matrix for axis {where} would be too large"
    exclusive = node.attributes.get_int("exclusive", 0)
    weights = np.triu(np.ones((shape[where], shape[where]), np.float32), exclusive)
    if node.attributes.get_int("reverse", 0):
        weights = weights.T
    order = list(range(len(shape)))
    order[where], order[-1] = order[-1], order[where]
    return op.Transpose(op.MatMul(op.Transpose(x, perm=order), weights), perm=order)
