"""The floats that MatMulInteger and ConvInteger are cast to have no gradient."""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.nodes import input_at

__all__ = ["cast"]

ON_FLOATS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}


@RULES.register("Cast")
def cast(node: ir.Node, op: Builder) -> Result:
    """Conv or MatMul of the integers as floats."""
    product = node.inputs[0].producer() if node.inputs[0] is not None else None
    if product is None or product.op_type not in ON_FLOATS:
        return None
    a, b, a_zero, b_zero = [*product.inputs, None, None][:4]
    assert a is not None
    assert b is not None
    left, right = _floats(op, a, a_zero), _floats(op, b, b_zero)
    if left is None or right is None:
        return None  # integers that are no floats in quantised form
    attributes = {name: attribute.value for name, attribute in product.attributes.items()}
    return getattr(op, ON_FLOATS[product.op_type])(left, right, **attributes)


def _floats(op: Builder, integers: ir.Value, zero: ir.Value | None) -> Any:
    """Return ``integers`` without their ``zero`` point as floats; None where that is not known."""
    if op.is_constant(integers):
        stored = op.constant(integers)
        if zero is None:
            return op.value(stored.astype(np.float64))
        offset = op.constant(zero).astype(np.float64)
        if offset.size > 1 and stored.ndim == 4:
            offset = offset.reshape(-1, 1, 1, 1)
        return op.value(stored - (offset if offset.size > 1 else offset.reshape(())))
    producer = integers.producer()
    if producer is None or producer.op_type != "QuantizeLinear":
        return None
    if input_at(producer, 2) is not zero:
        return None
    scale = producer.inputs[1]
    return op.Div(op.DequantizeLinear(integers, scale, zero), scale)
