"""Why a stored weight is not pruned, and what is stored in it for zero."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx_ir as ir

from onnx_unipts.graph.basis import describe_basis
from onnx_unipts.graph.model import StoredTensor
from onnx_unipts.graph.nodes import input_at
from onnx_unipts.graph.prunable.operands import Operand
from onnx_unipts.graph.prunable.weight import PrunableWeight

__all__ = ["objection", "stored_zero"]

_KIND_REASONS = {
    "recurrent": "recurrent weight; pruned only by choice",
    "optional": "weight of {operator}; pruned only by choice",
    "quantised": "quantised: stored as integers",
}


def objection(
    stored: StoredTensor,
    weight: PrunableWeight,
    operand: Operand,
    axes: Sequence[int | None] | None,
    constant_data: bool,
    zero: int | None,
    include: Collection[str],
) -> str:
    """Return why ``weight``, which ``stored`` holds, is not pruned; empty where it is."""
    quantised = not stored.tensor.dtype.is_floating_point() or stored.tensor.dtype.bitwidth < 16
    if quantised and "quantised" not in include:
        return _KIND_REASONS["quantised"]
    if quantised and zero is None:
        return f"{_KIND_REASONS['quantised']}, not as bytes with one zero point"
    if weight.count == 0:
        return "holds no elements"
    if axes is not None and len(axes) < 2:
        return "a vector, not a matrix"
    if constant_data:
        return "fed by constant data"
    if quantised:
        return ""
    if operand.kind and operand.kind not in include:
        return _KIND_REASONS[operand.kind].format(operator=weight.operator)
    return describe_basis(weight.operator, weight.shape, stored.numpy)


def stored_zero(
    weight: StoredTensor,
    node: ir.Node,
    operand: Operand,
    chain: Sequence[ir.Node],
    stored: Mapping[ir.Value, StoredTensor],
) -> int | None:
    """Return what is stored for zero; None where that is not one number."""
    if weight.tensor.dtype.is_floating_point():
        return 0
    if weight.tensor.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
        return None
    holders = [(step, 2) for step in chain if step.op_type == "DequantizeLinear"]
    holders += [(node, operand.zero)] if operand.zero is not None else []
    if not holders:
        return None
    holder, index = holders[0]
    value = input_at(holder, index)
    if value is None:
        return 0
    numbers = {int(n) for n in stored[value].numpy().ravel()} if value in stored else ()
    return next(iter(numbers)) if len(numbers) == 1 else None
