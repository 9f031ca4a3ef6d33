"""Celu has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["celu"]


@RULES.register("Celu")
def celu(node: ir.Node, op: Builder) -> Result:
    """Relu(x) + alpha * (Exp((x - Relu(x)) / alpha) - 1)."""
    (x,) = op.inputs(1)
    # Not Min(x, 0): its gradient at exactly zero would not make up for that of Relu.
    positive = op.Relu(x)
    alpha = node.attributes.get_float("alpha", 1.0)
    negative = op.Exp(op.Mul(op.Sub(x, positive), 1 / alpha))
    return op.Add(positive, op.Mul(op.Sub(negative, 1.0), alpha))
