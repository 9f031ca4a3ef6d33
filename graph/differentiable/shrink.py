"""Shrink has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["shrink"]


@RULES.register("Shrink")
def shrink(node: ir.Node, op: Builder) -> Result:
    """Where(|x| > lambd, x - Sign(x) * bias, 0)."""
    (x,) = op.inputs(1)
    bias = node.attributes.get_float("bias", 0.0)
    bound = node.attributes.get_float("lambd", 0.5)
    shrunk = op.Where(op.Greater(x, bound), op.Sub(x, bias), 0.0)
    return op.Where(op.Less(x, -bound), op.Add(x, bias), shrunk)
