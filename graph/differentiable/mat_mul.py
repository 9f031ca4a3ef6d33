"""MatMul with a vector has no gradient on the right, nor on the left of a batch of matrices."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["mat_mul"]


@RULES.register("MatMul")
def mat_mul(node: ir.Node, op: Builder) -> Result:
    """MatMul with a matrix of one row or column, then Squeeze."""
    left, right = op.inputs(2)
    dropped = []
    if op.rank(left) == 1:
        left = op.Unsqueeze(left, [0])
        dropped.append(-2 if op.rank(right) > 1 else -1)
    if op.rank(right) == 1:
        right = op.Unsqueeze(right, [1])
        dropped.insert(0, -1)
    if not dropped:
        return None
    y = op.MatMul(left, right)
    return op.Squeeze(y, [-2, -1] if len(dropped) == 2 else dropped)
