"""Atanh has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["atanh"]


@RULES.register("Atanh")
def atanh(node: ir.Node, op: Builder) -> Result:
    """Log((1 + x) / (1 - x)) / 2."""
    (x,) = op.inputs(1)
    return op.Mul(op.Log(op.Div(op.Add(x, 1.0), op.Sub(1.0, x))), 0.5)
