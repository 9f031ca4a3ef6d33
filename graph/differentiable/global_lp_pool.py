"""GlobalLpPool has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.root import root
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["global_lp_pool"]


@RULES.register("GlobalLpPool")
def global_lp_pool(node: ir.Node, op: Builder) -> Result:
    """ReduceSum(|x|^p)^(1/p)."""
    (x,) = op.inputs(1)
    p = node.attributes.get_int("p", 2)
    spatial = list(range(2, op.rank(x)))
    return root(op, op.reduce("ReduceSum", op.Pow(op.Abs(x), float(p)), spatial), p)
