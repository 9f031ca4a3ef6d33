"""LpNormalization has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["lp_normalization"]


@RULES.register("LpNormalization")
def lp_normalization(node: ir.Node, op: Builder) -> Result:
    """x / ReduceL2(x) or x / ReduceL1(x); zero stays zero."""
    (x,) = op.inputs(1)
    kind = "ReduceL1" if node.attributes.get_int("p", 2) == 1 else "ReduceL2"
    norm = op.reduce(kind, x, [node.attributes.get_int("axis", -1)])
    return op.Div(x, op.Where(op.Equal(norm, 0.0), 1.0, norm))
