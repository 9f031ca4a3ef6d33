"""Elu has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["elu"]


@RULES.register("Elu")
def elu(node: ir.Node, op: Builder) -> Result:
    """Relu(x) + alpha * (Exp(x - Relu(x)) - 1)."""
    (x,) = op.inputs(1)
    # Not Min(x, 0): its gradient at exactly zero would not make up for that of Relu.
    positive = op.Relu(x)
    negative = op.Sub(x, positive)
    alpha = node.attributes.get_float("alpha", 1.0)
    return op.Add(positive, op.Mul(op.Sub(op.Exp(negative), 1.0), alpha))
