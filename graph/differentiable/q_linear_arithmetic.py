"""QLinearAdd and QLinearMul, of onnxruntime's quantizer, have no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.quantized import dequantized
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["q_linear_arithmetic"]


@RULES.register("com.microsoft.QLinearAdd", "com.microsoft.QLinearMul")
def q_linear_arithmetic(node: ir.Node, op: Builder) -> Result:
    """DequantizeLinear, Add or Mul, QuantizeLinear."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = op.inputs(8)
    combine = getattr(op, node.op_type.removeprefix("QLinear"))
    y = combine(dequantized(op, a, a_scale, a_zero), dequantized(op, b, b_scale, b_zero))
    return op.QuantizeLinear(y, y_scale, y_zero)
