"""ReduceLogSum has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["reduce_log_sum"]


@RULES.register("ReduceLogSum")
def reduce_log_sum(node: ir.Node, op: Builder) -> Result:
    """Log(ReduceSum(x))."""
    (x,) = op.inputs(1)
    axes = op.axes(op.rank(x))
    if not axes:
        return op.Identity(x)
    return op.Log(op.reduce("ReduceSum", x, axes, node.attributes.get_int("keepdims", 1)))
