"""Sinh has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["sinh"]


@RULES.register("Sinh")
def sinh(node: ir.Node, op: Builder) -> Result:
    """(Exp(x) - Exp(-x)) / 2."""
    (x,) = op.inputs(1)
    return op.Mul(op.Sub(op.Exp(x), op.Exp(op.Neg(x))), 0.5)
