"""MultiHeadAttention, of onnxruntime's optimiser, has no gradient."""

from itertools import accumulate

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.differentiable.scaled_dot_product import attend, mask_bias

__all__ = ["multi_head_attention"]


@RULES.register("com.microsoft.MultiHeadAttention")
def multi_head_attention(node: ir.Node, op: Builder) -> Result:
    """MatMul, Softmax, MatMul, per head."""
    query, key, value, bias, mask, extra, *past = op.inputs(8)
    if any(past) or op.used(1) or op.used(2):
        return "it carries keys and values over"
    if key is None or value is None or op.rank(key) != 3:
        return "its keys and values are packed"
    if bias is not None:
        ends = list(accumulate(op.shape(part)[2] for part in (query, key, value)))
        query, key, value = (
            op.Add(part, op.Slice(bias, [start], [end], [0]))
            for part, start, end in zip((query, key, value), [0, *ends], ends, strict=False)
        )
    if extra is not None and op.shape(extra)[0] != op.shape(query)[0]:
        return "its attention bias is broadcast over the batch, which onnxruntime gets wrong"
    heads = node.attributes.get_int("num_heads", 1)
    scale = node.attributes.get_float("scale", 0.0)
    steps, keys = op.shape(query)[1], op.shape(key)[1]
    if mask is not None and steps != keys:
        return "its mask is for more keys than queries, which onnxruntime gets wrong"
    return attend(
        op, query, key, value, heads, scale, mask_bias(op, mask, node, steps, keys), extra
    )
