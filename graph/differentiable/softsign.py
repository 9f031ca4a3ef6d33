"""Softsign has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["softsign"]


@RULES.register("Softsign")
def softsign(node: ir.Node, op: Builder) -> Result:
    """x / (1 + |x|)."""
    (x,) = op.inputs(1)
    return op.Div(x, op.Add(op.Abs(x), 1.0))
