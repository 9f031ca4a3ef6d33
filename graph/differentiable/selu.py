"""Selu has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["selu"]


@RULES.register("Selu")
def selu(node: ir.Node, op: Builder) -> Result:
    """gamma * (Relu(x) + alpha * (Exp(Min(x, 0)) - 1))."""
    (x,) = op.inputs(1)
    alpha = node.attributes.get_float("alpha", 1.6732632)
    gamma = node.attributes.get_float("gamma", 1.050701)
    negative = op.Mul(op.Sub(op.Exp(op.Min(x, 0.0)), 1.0), alpha)
    return op.Mul(op.Add(op.Relu(x), negative), gamma)
