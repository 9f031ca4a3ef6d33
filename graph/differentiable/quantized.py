"""The floats that quantised operands stand for."""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder

__all__ = ["dequantized", "integer_bias"]


def dequantized(
    op: Builder, x: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int = -1
) -> Any:
    """Return the floats that ``x`` stands for: stored integers as a constant.

    These may have a ``scale`` and a ``zero`` point for each position on ``axis``.
    """
    if not op.is_constant(x):
        return op.DequantizeLinear(x, scale, zero, _right=False)
    integers, scales = op.constant(x), op.constant(scale)
    offsets = np.zeros((), np.int64) if zero is None else op.constant(zero)
    if scales.size > 1:
        shape = [1] * integers.ndim
        shape[axis] = -1
        scales, offsets = scales.reshape(shape), offsets.reshape(shape if offsets.size > 1 else ())
    floats = (integers.astype(np.float64) - offsets.astype(np.float64)) * scales
    return op.value(floats.reshape(integers.shape))


def integer_bias(op: Builder, bias: ir.Value | None, *scales: ir.Value) -> Any:
    """Return the floats that a ``bias`` of int32 stands for: its scale is that of the products."""
    if bias is None:
        return None
    floats = op.constant(bias).astype(np.float64)
    for scale in scales:
        floats = floats * op.constant(scale).reshape(-1)
    return op.value(floats)
