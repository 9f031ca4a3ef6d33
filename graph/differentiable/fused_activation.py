"""The activation inside one of onnxruntime's fused operators."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder, CannotRewriteError

__all__ = ["activate"]


def activate(op: Builder, x: ir.Value, name: str, parameters: Sequence[float]) -> Any:
    """Return activation ``name`` of ``x``; LeakyRelu, HardSigmoid and Clip have parameters."""
    if not name:
        return x
    if name in ("Relu", "Sigmoid", "Tanh"):
        return getattr(op, name)(x)
    if name == "LeakyRelu":
        return op.LeakyRelu(x, alpha=parameters[0])
    if name == "HardSigmoid":
        return op.HardSigmoid(x, alpha=parameters[0], beta=parameters[1])
    if name == "Clip":
        return op.Clip(x, parameters[0], parameters[1])
    raise CannotRewriteError(f"its activation {name} has no rule")
