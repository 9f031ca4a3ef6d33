"""Acosh has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["acosh"]


@RULES.register("Acosh")
def acosh(node: ir.Node, op: Builder) -> Result:
    """Log(x + Sqrt(x * x - 1))."""
    (x,) = op.inputs(1)
    return op.Log(op.Add(x, op.Sqrt(op.Sub(op.Mul(x, x), 1.0))))
