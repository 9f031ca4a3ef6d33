"""ReduceL2 and ReduceLogSumExp have a broken gradient where they drop the reduced axes."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["reduce_l2"]


@RULES.register("ReduceL2", "ReduceLogSumExp")
def reduce_l2(node: ir.Node, op: Builder) -> Result:
    """The same with keepdims, then Squeeze."""
    (x,) = op.inputs(1)
    if node.attributes.get_int("keepdims", 1):
        return None
    axes = op.axes(op.rank(x))
    return op.Squeeze(op.reduce(node.op_type, x, axes), axes) if axes else None
