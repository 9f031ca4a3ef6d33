"""QuantizeLinear and DequantizeLinear stop the gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["dequantize_linear"]


RESOLUTION = 2.0**24  # steps per quantum in which the rounding error is kept


@RULES.register("DequantizeLinear")
def dequantize_linear(node: ir.Node, op: Builder) -> Result:
    """Straight through: the clipped value plus the rounding error, which no gradient passes."""
    quantized, scale, zero = op.inputs(3)
    producer = quantized.producer()
    if producer is None or producer.op_type != "QuantizeLinear":
        return None  # stored integers: nothing to differentiate
    if node.attributes.get_int("block_size", 0):
        return "it is quantised block by block"
    x, *given = [*producer.inputs, None][:3]
    if any(not _same(op, *pair) for pair in zip((scale, zero), given, strict=True)):
        return "scale or zero point differ from those of QuantizeLinear"
    integers = np.iinfo(quantized.dtype.numpy())
    offset = np.zeros((), np.int64) if zero is None else op.constant(zero).astype(np.int64)
    low, high = (np.array(limit - offset, np.float64) for limit in (integers.min, integers.max))
    if scale.shape is not None and len(scale.shape) == 1 and op.rank(x) > 1:
        axis = node.attributes.get_int("axis", 1) % op.rank(x)
        behind = list(range(1, op.rank(x) - axis))
        low, high = (np.expand_dims(np.atleast_1d(limit), tuple(behind)) for limit in (low, high))
        scale = op.Unsqueeze(scale, behind) if behind else scale
    steps = op.Min(op.Max(op.Div(x, scale), low), high)
    error = op.truncate(op.Mul(op.Sub(op.Round(steps), steps), RESOLUTION))
    return op.Mul(op.Add(steps, op.Mul(error, 1 / RESOLUTION)), scale)


def _same(op: Builder, one: ir.Value | None, other: ir.Value | None) -> bool:
    if one is other:
        return True
    if one is None or other is None or not (op.is_constant(one) and op.is_constant(other)):
        return False
    return np.array_equal(op.constant(one), op.constant(other))
