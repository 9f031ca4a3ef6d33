"""How large a model is, and whether one file can hold it."""

from __future__ import annotations

import onnx_ir as ir

from onnx_unipts.graph.model.tensors import stored_tensors

__all__ = ["PROTOBUF_LIMIT", "fits_one_file", "weight_bytes"]

# A protobuf message ends at 2 GiB; the slack is for what is not weights.
PROTOBUF_LIMIT = 2**31 - 2**24


def fits_one_file(model: ir.Model) -> bool:
    """Say whether ``model`` can be one protobuf message: its weights take less than 2 GB."""
    return weight_bytes(model) <= PROTOBUF_LIMIT


def weight_bytes(model: ir.Model) -> int:
    """Return what all stored tensors of ``model`` take, in bytes."""
    return sum(stored.tensor.nbytes for stored in stored_tensors(model).values())
