"""Pow has a gradient only for a constant exponent of the base's type."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["pow_"]


@RULES.register("Pow")
def pow_(node: ir.Node, op: Builder) -> Result:
    """Pow with a constant of the base's type, or Exp(exponent * Log(base)) for a positive base."""
    base, exponent = op.inputs(2)
    if op.is_constant(exponent):
        if exponent.dtype == base.dtype:
            return None
        return op.Pow(base, op.constant(exponent).astype(np.float64))
    if exponent.dtype != base.dtype:
        exponent = op.cast_like(exponent, base)
    return op.Exp(op.Mul(exponent, op.Log(base)))
