"""ReduceSumSquare has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["reduce_sum_square"]


@RULES.register("ReduceSumSquare")
def reduce_sum_square(node: ir.Node, op: Builder) -> Result:
    """ReduceSum(x * x)."""
    (x,) = op.inputs(1)
    axes = op.axes(op.rank(x))
    if not axes:
        return op.Identity(x)
    return op.reduce("ReduceSum", op.Mul(x, x), axes, node.attributes.get_int("keepdims", 1))
