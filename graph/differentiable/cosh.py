"""Cosh has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["cosh"]


@RULES.register("Cosh")
def cosh(node: ir.Node, op: Builder) -> Result:
    """(Exp(x) + Exp(-x)) / 2."""
    (x,) = op.inputs(1)
    return op.Mul(op.Add(op.Exp(x), op.Exp(op.Neg(x))), 0.5)
