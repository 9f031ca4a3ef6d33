"""QuantizeLinear and DequantizeLinear stop the gradient."""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rounding_error import rounding_error
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["dequantize_linear"]


# Operators that choose among integers as they would among the floats that these stand for.
MOVING = ("Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@RULES.register("DequantizeLinear")
def dequantize_linear(node: ir.Node, op: Builder) -> Result:
    """Straight through: the clipped value plus the rounding error, which no gradient passes."""
    quantized, scale, zero = op.inputs(3)
    producer = quantized.producer()
    if producer is not None and producer.op_type in MOVING:
        return _moved(producer, scale, zero, op)
    if producer is None or producer.op_type != "QuantizeLinear":
        return None  # stored integers: nothing to differentiate
    if node.attributes.get_int("block_size", 0):
        return "it is quantised block by block"
    x, *given = [*producer.inputs, None][:3]
    if any(not _same(op, *pair) for pair in zip((scale, zero), given, strict=True)):
        return "scale or zero point differ from those of QuantizeLinear"
    kind = quantized.dtype.numpy()
    if kind.kind not in "iu":
        return f"it is quantised to {quantized.dtype.name}"
    integers = np.iinfo(kind)
    low, high = (_distance(op, zero, limit) for limit in (integers.min, integers.max))
    if scale.shape is not None and len(scale.shape) == 1 and op.rank(x) > 1:
        axis = node.attributes.get_int("axis", 1) % op.rank(x)
        behind = list(range(1, op.rank(x) - axis))
        low, high = (np.expand_dims(np.atleast_1d(limit), tuple(behind)) for limit in (low, high))
        scale = op.Unsqueeze(scale, behind) if behind else scale
    steps = op.Div(x, scale)
    if op.is_constant(zero):
        steps = op.Min(op.Max(steps, low), high)
        whole = op.Round(steps)
    else:  # that of the values themselves: the outermost are clipped by rounding at most
        whole = op.Min(op.Max(op.Round(steps), low), high)
    error = rounding_error(op, op.Sub(whole, steps))
    return op.Mul(op.Add(steps, error), scale)


def _distance(op: Builder, zero: ir.Value | None, limit: int) -> Any:
    """Return how many steps above ``zero`` an integer is."""
    if op.is_constant(zero):
        return limit - np.array(0 if zero is None else op.constant(zero), np.float64)
    return op.Sub(float(limit), op.Cast(zero, to=op.dtype))


def _moved(node: ir.Node, scale: ir.Value, zero: ir.Value | None, op: Builder) -> Result:
    """Return what ``node`` makes of floats, where it stands between the two as in one format."""
    if scale.shape is None or scale.shape.rank() > 0 or len(node.outputs) > 1:
        return None
    x, *others = node.inputs
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    floats = op.DequantizeLinear(x, scale, zero, _right=False)
    return getattr(op, node.op_type)(floats, *others, **attributes)


def _same(op: Builder, one: ir.Value | None, other: ir.Value | None) -> bool:
    if one is other:
        return True
    if one is None or other is None or not (op.is_constant(one) and op.is_constant(other)):
        return False
    return np.array_equal(op.constant(one), op.constant(other))
