"""Clip gives no gradient to its bounds."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["clip"]


@RULES.register("Clip")
def clip(node: ir.Node, op: Builder) -> Result:
    """Max and Min with computed bounds."""
    x, low, high = op.inputs(3)
    if op.is_constant(low) and op.is_constant(high):
        return None
    raised = x if low is None else op.Max(x, low)
    return raised if high is None else op.Min(raised, high)
