"""PRelu has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["prelu"]


@RULES.register("PRelu")
def prelu(node: ir.Node, op: Builder) -> Result:
    """Relu(x) + slope * Min(x, 0)."""
    x, slope = op.inputs(2)
    return op.Add(op.Relu(x), op.Mul(op.Min(x, 0.0), slope))
