"""Asinh has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["asinh"]


@RULES.register("Asinh")
def asinh(node: ir.Node, op: Builder) -> Result:
    """Log(x + Sqrt(x * x + 1)), odd, so computed from |x|."""
    (x,) = op.inputs(1)
    negative = op.Less(x, 0.0)
    # Not Abs, whose gradient at exactly zero is zero.
    size = op.Where(negative, op.Neg(x), x)
    positive = op.Log(op.Add(size, op.Sqrt(op.Add(op.Mul(x, x), 1.0))))
    return op.Where(negative, op.Neg(positive), positive)
