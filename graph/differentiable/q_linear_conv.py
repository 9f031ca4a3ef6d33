"""QLinearConv has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.quantized import dequantized, integer_bias
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["q_linear_conv"]


@RULES.register("QLinearConv")
def q_linear_conv(node: ir.Node, op: Builder) -> Result:
    """DequantizeLinear, Conv, QuantizeLinear."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = op.inputs(9)
    if not op.is_constant(w):
        return "its weight is computed"
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    y = op.Conv(
        dequantized(op, x, x_scale, x_zero),
        dequantized(op, w, w_scale, w_zero, axis=0),
        integer_bias(op, bias, x_scale, w_scale),
        **attributes,
    )
    return op.QuantizeLinear(y, y_scale, y_zero)
