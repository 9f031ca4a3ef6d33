"""The p-th root with a gradient that stays finite at zero."""

from typing import Any

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder

__all__ = ["root"]

TINY = 1e-30


def root(op: Builder, x: ir.Value, p: int) -> Any:
    """Return x^(1/p) of a non-negative ``x``; at zero its gradient is zero instead of infinite."""
    return x if p == 1 else op.Pow(op.Max(x, TINY), 1 / p)
