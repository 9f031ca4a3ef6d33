"""QLinearConcat, of onnxruntime's quantizer, has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.quantized import dequantized
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["q_linear_concat"]


@RULES.register("com.microsoft.QLinearConcat")
def q_linear_concat(node: ir.Node, op: Builder) -> Result:
    """DequantizeLinear of each part, Concat, QuantizeLinear."""
    y_scale, y_zero, *given = op.inputs(len(node.inputs))
    parts = [dequantized(op, *given[i : i + 3]) for i in range(0, len(given), 3)]
    y = op.Concat(*parts, axis=node.attributes.get_int("axis", 0))
    return op.QuantizeLinear(y, y_scale, y_zero)
