"""What the normalisations share: subtract the mean, divide by the standard deviation."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder

__all__ = ["standardize"]


def standardize(op: Builder, x: ir.Value, axes: Sequence[int], epsilon: float) -> Any:
    """Return (x - mean) / Sqrt(var + epsilon); mean and variance (biased) are over ``axes``."""
    centred = op.Sub(x, op.reduce("ReduceMean", x, axes))
    variance = op.reduce("ReduceMean", op.Mul(centred, centred), axes)
    return op.Div(centred, op.Sqrt(op.Add(variance, epsilon)))
