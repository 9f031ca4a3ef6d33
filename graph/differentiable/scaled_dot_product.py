"""Attention over heads from its queries, keys and values."""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder, CannotRewriteError

__all__ = ["attend", "mask_bias"]


def attend(
    op: Builder, query: Any, key: Any, value: Any, heads: int, scale: float, *biases: Any
) -> Any:
    """Return Softmax(query @ key^T * scale + biases) @ value per head, (batch, steps, width).

    Without a ``scale`` (zero) it is 1 / sqrt(width of a head).
    """
    scale = scale or (heads / op.shape(query)[-1]) ** 0.5
    query, key, value = (
        op.Transpose(op.Reshape(x, [0, 0, heads, -1]), perm=order)
        for x, order in ((query, [0, 2, 1, 3]), (key, [0, 2, 3, 1]), (value, [0, 2, 1, 3]))
    )
    scores = op.Mul(op.MatMul(query, key), scale)
    for bias in biases:
        scores = scores if bias is None else op.Add(scores, bias)
    mixed = op.MatMul(op.Softmax(scores, axis=-1), value)
    return op.Reshape(op.Transpose(mixed, perm=[0, 2, 1, 3]), [0, 0, -1])


def mask_bias(op: Builder, mask: Any, node: ir.Node, steps: int, keys: int) -> Any:
    """Return what to add to the scores, (batch, 1, steps or 1, keys), None for no mask.

    ``mask`` is (batch,), the number of keys, or (batch, keys) or (batch, steps, keys), 1 for a key
    that counts. The node's attribute ``unidirectional`` hides what comes later.
    """
    hidden = node.attributes.get_float("mask_filter_value", -10000.0)
    bias = None
    if mask is not None:
        rank = op.rank(mask)
        if rank > 3 or (rank == 1 and op.shape(mask) != op.shape(op.inputs(1)[0])[:1]):
            raise CannotRewriteError(f"its mask has shape {list(op.shape(mask))}")
        if rank == 1:
            counted: Any = op.Less(np.arange(keys, dtype=np.int32)[None], op.Unsqueeze(mask, [1]))
        else:
            counted = op.Greater(mask, np.zeros((), np.int32))
        visible = op.Cast(counted, to=op.dtype)
        bias = op.Unsqueeze(op.Mul(op.Sub(1.0, visible), hidden), [1, 2] if rank < 3 else [1])
    if node.attributes.get_int("unidirectional", 0):
        later = np.triu(np.full((steps, keys), hidden, np.float32), keys - steps + 1)
        bias = later if bias is None else op.Add(bias, later)
    return bias
