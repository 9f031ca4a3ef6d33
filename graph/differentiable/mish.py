"""Mish has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["mish"]


@RULES.register("Mish")
def mish(node: ir.Node, op: Builder) -> Result:
    """x * Tanh(Softplus(x))."""
    (x,) = op.inputs(1)
    return op.Mul(x, op.Tanh(op.Softplus(x)))
