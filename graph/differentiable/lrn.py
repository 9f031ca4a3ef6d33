"""LRN has no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["lrn"]


@RULES.register("LRN")
def lrn(node: ir.Node, op: Builder) -> Result:
    """x / (bias + alpha / size * squares)^beta, the squares summed by a constant 1x1 Conv."""
    (x,) = op.inputs(1)
    channels, *spatial = op.shape(x, skip=1)
    size = node.attributes.get_int("size", 1)
    offset = np.subtract.outer(np.arange(channels), np.arange(channels))  # output, input
    near = (offset <= (size - 1) // 2) & (-offset <= size // 2)
    kernel = near.reshape(channels, channels, *(1 for _ in spatial)).astype(np.float32)
    squares = op.Conv(op.Mul(x, x), kernel * node.attributes.get_float("alpha", 1e-4) / size)
    base = op.Add(squares, node.attributes.get_float("bias", 1.0))
    return op.Div(x, op.Pow(base, node.attributes.get_float("beta", 0.75)))
