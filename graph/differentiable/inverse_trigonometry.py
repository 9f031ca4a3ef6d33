"""Acos, Asin and Atan have no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["inverse_trigonometry"]


WIDE = 1e6  # the slope of Atan is zero beyond


@RULES.register("Acos", "Asin", "Atan")
def inverse_trigonometry(node: ir.Node, op: Builder) -> Result:
    """The value, which no gradient passes, plus slope times a zero whose gradient is one."""
    (x,) = op.inputs(1)
    value = op.stop(getattr(op, node.op_type)(x))
    near = op.Clip(x, -WIDE, WIDE)
    held = op.stop(near)
    square = op.Mul(held, held)
    if node.op_type == "Atan":
        slope = op.Reciprocal(op.Add(square, 1.0))
    else:
        slope = op.Reciprocal(op.Sqrt(op.Sub(1.0, square)))
    if node.op_type == "Acos":
        slope = op.Neg(slope)
    return op.Add(value, op.Mul(slope, op.Sub(near, held)))
