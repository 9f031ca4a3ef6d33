"""QLinearMatMul has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.quantized import dequantized
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["q_linear_mat_mul"]


@RULES.register("QLinearMatMul")
def q_linear_mat_mul(node: ir.Node, op: Builder) -> Result:
    """DequantizeLinear, MatMul, QuantizeLinear."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = op.inputs(8)
    rows = dequantized(op, a, a_scale, a_zero, axis=-2)
    y = op.MatMul(rows, dequantized(op, b, b_scale, b_zero, axis=-1))
    return op.QuantizeLinear(y, y_scale, y_zero)
