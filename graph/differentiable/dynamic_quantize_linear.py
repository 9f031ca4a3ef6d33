"""DynamicQuantizeLinear stops the gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["dynamic_quantize_linear"]

STEPS = 255.0
SMALLEST = 1e-30  # what zeros alone are divided by


@RULES.register("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: ir.Node, op: Builder) -> Result:
    """QuantizeLinear with the scale and zero point of the values, which no gradient passes."""
    (x,) = op.inputs(1)
    values, axes = op.stop(x), list(range(op.rank(x)))
    low = op.Min(op.reduce("ReduceMin", values, axes, keepdims=0), 0.0)
    high = op.Max(op.reduce("ReduceMax", values, axes, keepdims=0), 0.0)
    scale = op.Max(op.Div(op.Sub(high, low), STEPS), SMALLEST)
    whole = op.Round(op.Min(op.Max(op.Div(op.Neg(low), scale), 0.0), STEPS))
    zero = op.Cast(whole, to=ir.DataType.UINT8)
    return op.QuantizeLinear(x, scale, zero), scale, zero
