"""Models: read, looked through, changed in their stored tensors, and written."""

from onnx_unipts.graph.model.loading import is_ort_format, load_model
from onnx_unipts.graph.model.proto import from_proto, holds_map, serialize, to_bytes, to_proto
from onnx_unipts.graph.model.saving import data_locations, save_model, writing
from onnx_unipts.graph.model.scopes import Scope, iterate_scopes, node_label, proto_graphs, scoped
from onnx_unipts.graph.model.size import fits_one_file, weight_bytes
from onnx_unipts.graph.model.tensors import (
    INITIALIZERS_APART,
    StoredTensor,
    find_nonfinite,
    read_tensors,
    stored_tensors,
    write_lazily,
    write_tensors,
)

__all__ = [
    "INITIALIZERS_APART",
    "Scope",
    "StoredTensor",
    "data_locations",
    "find_nonfinite",
    "fits_one_file",
    "from_proto",
    "holds_map",
    "is_ort_format",
    "iterate_scopes",
    "load_model",
    "node_label",
    "proto_graphs",
    "read_tensors",
    "save_model",
    "scoped",
    "serialize",
    "stored_tensors",
    "to_bytes",
    "to_proto",
    "weight_bytes",
    "write_lazily",
    "write_tensors",
    "writing",
]
