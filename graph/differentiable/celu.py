"""Celu has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["celu"]


@RULES.register("Celu")
def celu(node: ir.Node, op: Builder) -> Result:
    """Relu(x) + alpha * (Exp(Min(x, 0) / alpha) - 1)."""
    (x,) = op.inputs(1)
    alpha = node.attributes.get_float("alpha", 1.0)
    negative = op.Exp(op.Mul(op.Min(x, 0.0), 1 / alpha))
    return op.Add(op.Relu(x), op.Mul(op.Sub(negative, 1.0), alpha))
