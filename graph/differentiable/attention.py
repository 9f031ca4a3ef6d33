"""Attention, of onnxruntime's optimiser, has no gradient."""

from itertools import accumulate

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.differentiable.scaled_dot_product import attend, mask_bias

__all__ = ["attention"]


@RULES.register("com.microsoft.Attention")
def attention(node: ir.Node, op: Builder) -> Result:
    """MatMuls, Softmax, MatMul, per head."""
    x, weight, bias, mask, past, extra = op.inputs(6)
    if past is not None or op.used(1):
        return "it carries keys and values over"
    width = op.shape(weight)[1]
    sizes = node.attributes.get_ints("qkv_hidden_sizes") or [width // 3] * 3
    projected = op.MatMul(x, weight)
    if bias is not None:
        projected = op.Add(projected, bias)
    ends = list(accumulate(sizes))
    query, key, value = (
        op.Slice(projected, [end - size], [end], [2]) for size, end in zip(sizes, ends, strict=True)
    )
    steps = op.shape(x)[1]
    heads = node.attributes.get_int("num_heads", 1)
    scale = node.attributes.get_float("scale", 0.0)
    return attend(
        op, query, key, value, heads, scale, mask_bias(op, mask, node, steps, steps), extra
    )
