"""ReduceL1 has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["reduce_l1"]


@RULES.register("ReduceL1")
def reduce_l1(node: ir.Node, op: Builder) -> Result:
    """ReduceSum(|x|)."""
    (x,) = op.inputs(1)
    axes = op.axes(op.rank(x))
    if not axes:
        return op.Identity(x)
    return op.reduce("ReduceSum", op.Abs(x), axes, node.attributes.get_int("keepdims", 1))
