"""QGemm, of onnxruntime's quantizer, has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.quantized import dequantized, integer_bias
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["q_gemm"]


@RULES.register("com.microsoft.QGemm")
def q_gemm(node: ir.Node, op: Builder) -> Result:
    """DequantizeLinear, Gemm, QuantizeLinear where the output is quantised."""
    a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero = op.inputs(9)
    transposed = node.attributes.get_int("transB", 0)
    alpha = node.attributes.get_float("alpha", 1.0)
    y = op.Gemm(
        dequantized(op, a, a_scale, a_zero),
        dequantized(op, b, b_scale, b_zero, axis=0 if transposed else 1),
        transA=node.attributes.get_int("transA", 0),
        transB=transposed,
        alpha=alpha,
    )
    if bias is not None:
        y = op.Add(y, op.Mul(integer_bias(op, bias, a_scale, b_scale), alpha))
    return y if y_scale is None else op.QuantizeLinear(y, y_scale, y_zero)
