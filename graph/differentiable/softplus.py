"""Softplus has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["softplus"]


@RULES.register("Softplus")
def softplus(node: ir.Node, op: Builder) -> Result:
    """Relu(x) + Log(1 + Exp(-|x|)), which does not overflow."""
    (x,) = op.inputs(1)
    return op.Add(op.Relu(x), op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), 1.0)))
