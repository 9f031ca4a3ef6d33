"""Mod of floats has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["mod"]


@RULES.register("Mod")
def mod(node: ir.Node, op: Builder) -> Result:
    """x - y * truncate(x / y)."""
    x, y = op.inputs(2)
    return op.Sub(x, op.Mul(y, op.truncate(op.Div(x, y))))
