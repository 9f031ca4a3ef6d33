"""Elu has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["elu"]


@RULES.register("Elu")
def elu(node: ir.Node, op: Builder) -> Result:
    """Relu(x) + alpha * (Exp(Min(x, 0)) - 1)."""
    (x,) = op.inputs(1)
    alpha = node.attributes.get_float("alpha", 1.0)
    return op.Add(op.Relu(x), op.Mul(op.Sub(op.Exp(op.Min(x, 0.0)), 1.0), alpha))
