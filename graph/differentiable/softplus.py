"""Softplus has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["softplus"]


@RULES.register("Softplus")
def softplus(node: ir.Node, op: Builder) -> Result:
    """Relu(x) + Log(1 + Exp(x - 2 * Relu(x))), which does not overflow."""
    (x,) = op.inputs(1)
    # Not -|x|: its gradient at exactly zero would not make up for that of Relu.
    positive = op.Relu(x)
    exponent = op.Sub(x, op.Add(positive, positive))
    return op.Add(positive, op.Log(op.Add(op.Exp(exponent), 1.0)))
