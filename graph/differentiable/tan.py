"""Tan has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["tan"]


@RULES.register("Tan")
def tan(node: ir.Node, op: Builder) -> Result:
    """Sin(x) / Cos(x)."""
    (x,) = op.inputs(1)
    return op.Div(op.Sin(x), op.Cos(x))
