"""Where the data of a tensor stands in the file: as bytes, or in the field of its type."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

__all__ = ["is_typed", "make_tensor"]


def is_typed(tensor: ir.TensorProtocol) -> bool:
    """Tell whether the data stands in a field such as ``float_data``, not in ``raw_data``."""
    if not isinstance(tensor, ir.TensorProtoTensor):
        return False
    return not tensor.raw.HasField("raw_data")


def make_tensor(
    array: np.ndarray, name: str | None, typed: bool = False, doc_string: str | None = None
) -> ir.TensorProtocol:
    """Return ``array`` as a tensor that is written as bytes, or where ``typed`` in a field."""
    if not typed:
        return ir.tensor(np.array(array, order="C"), name=name, doc_string=doc_string)
    kind = int(ir.DataType.from_numpy(array.dtype))
    values = array.reshape(-1)
    proto = onnx.helper.make_tensor(name or "", kind, array.shape, values, raw=False)
    if not name:
        proto.ClearField("name")
    if doc_string:
        proto.doc_string = doc_string
    return ir.TensorProtoTensor(proto)
