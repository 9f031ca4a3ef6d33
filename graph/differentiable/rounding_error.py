"""Rounding errors: a straight-through gradient leaves them out, and so must a check of it."""

from typing import Any

import onnx
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder

__all__ = ["rounding_error", "without_rounding_errors"]

RESOLUTION = 2.0**24  # steps per unit in which an error is kept
# What the constants are called that every error is multiplied by.
MARK = "rounding_error"


def rounding_error(op: Builder, error: ir.Value) -> Any:
    """Return ``error``, a number of units, which no gradient passes."""
    steps = op.truncate(op.Mul(error, RESOLUTION))
    return op.Mul(steps, op.named_constant(MARK, 1 / RESOLUTION))


def without_rounding_errors(model: bytes) -> bytes:
    """Return the serialised ``model`` with all of its `rounding_error` zero.

    What it computes then is smooth, and its gradient the one that finite differences show.
    """
    proto = onnx.ModelProto.FromString(model)
    errors = [t for t in proto.graph.initializer if t.name.partition(f"/{MARK}")[1]]
    for tensor in errors:
        zeros = 0 * onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    return bytes(proto.SerializeToString()) if errors else model
