"""HardSigmoid has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["hard_sigmoid"]


@RULES.register("HardSigmoid")
def hard_sigmoid(node: ir.Node, op: Builder) -> Result:
    """Clip(alpha * x + beta, 0, 1)."""
    (x,) = op.inputs(1)
    alpha = node.attributes.get_float("alpha", 0.2)
    beta = node.attributes.get_float("beta", 0.5)
    return op.Clip(op.Add(op.Mul(x, alpha), beta), 0.0, 1.0)
