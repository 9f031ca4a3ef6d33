"""Operators on one quantised tensor, of onnxruntime's quantizer, have no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.quantized import dequantized
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["q_linear_unary"]


@RULES.register(
    "com.microsoft.QLinearAveragePool",
    "com.microsoft.QLinearGlobalAveragePool",
    "com.microsoft.QLinearLeakyRelu",
    "com.microsoft.QLinearSigmoid",
)
def q_linear_unary(node: ir.Node, op: Builder) -> Result:
    """DequantizeLinear, the operator on floats, QuantizeLinear."""
    if node.attributes.get_int("channels_last", 0):
        return "its channels are the last axis"
    x, x_scale, x_zero, y_scale, y_zero = op.inputs(5)
    attributes = {
        name: attribute.value
        for name, attribute in node.attributes.items()
        if name != "channels_last"
    }
    operator = getattr(op, node.op_type.removeprefix("QLinear"))
    y = operator(dequantized(op, x, x_scale, x_zero), **attributes)
    return op.QuantizeLinear(y, y_scale, y_zero)
