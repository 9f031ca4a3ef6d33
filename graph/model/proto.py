"""Between protos and onnx-ir, with what onnx-ir knows no form for kept aside."""

from __future__ import annotations

import logging

import onnx
import onnx_ir as ir

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model.scopes import proto_graphs
from onnx_unipts.graph.model.size import PROTOBUF_LIMIT, fits_one_file, weight_bytes
from onnx_unipts.graph.model.sparse import densify, sparsify
from onnx_unipts.graph.model.tensors import stored_tensors
from onnx_unipts.graph.sequence_inputs import gather_sequences

__all__ = ["from_proto", "holds_map", "serialize", "to_bytes", "to_proto"]

# A shape whose element type is not known is left out of a file, and onnx-ir warns of every one.
logging.getLogger("onnx_ir.serde").addFilter(
    lambda record: "Skipping serialization" not in str(record.msg)
)


def serialize(model: ir.Model) -> bytes:
    """Return ``model`` as one ONNX file in memory, all weights inside, for an onnxruntime session.

    Raises `UnsupportedModelError` over 2 GB, where a session must be given the path of a file.
    """
    if not fits_one_file(model):
        raise UnsupportedModelError(
            f"the model holds {weight_bytes(model)} bytes of weights; over {PROTOBUF_LIMIT} it "
            "has to be saved with external data and run by its path"
        )
    return bytes(to_proto(model).SerializeToString())


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """Turn a proto, which is changed, into onnx-ir, with what onnx-ir knows no form for set aside.

    That is sparse storage, dense in memory, and map types, kept as bytes; `to_proto` restores them.
    """
    types = _set_types_aside(proto.graph)
    sparse = densify(proto)
    model = ir.from_proto(proto)
    imports = model.graph.opset_imports
    if "ai.onnx" in imports:
        imports[""] = imports.pop("ai.onnx")
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name in types:
            value.meta["type_proto"] = types[value.name]
    for stored in stored_tensors(model).values():
        if stored.value.name in sparse:
            stored.value.meta["storage"] = "sparse"
        raw = getattr(stored.tensor, "raw", None)
        if isinstance(raw, onnx.TensorProto) and stored.tensor.metadata_props:
            del raw.metadata_props[:]  # onnx-ir would write them beside its own
    return model


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Turn ``model`` into a proto with every weight dense; memory-mapped weights are copied in."""
    proto = ir.to_proto(model)
    types = {
        value.name: value.meta["type_proto"]
        for value in (*model.graph.inputs, *model.graph.outputs)
        if "type_proto" in value.meta
    }
    for info in (*proto.graph.input, *proto.graph.output):
        if info.name in types:
            info.type.ParseFromString(types[info.name])
    return proto


def _set_types_aside(graph: onnx.GraphProto) -> dict[str, bytes]:
    """Clear the types onnx-ir cannot express (maps and what holds them); return them by name."""
    types: dict[str, bytes] = {}
    for info in (*graph.input, *graph.output, *graph.value_info):
        if holds_map(info.type):
            types[info.name] = info.type.SerializeToString()
            info.ClearField("type")
    return types


def holds_map(kind: onnx.TypeProto) -> bool:
    """Tell whether a type is a map or holds one, which onnx-ir has no form for."""
    if kind.HasField("sequence_type"):
        return holds_map(kind.sequence_type.elem_type)
    if kind.HasField("optional_type"):
        return holds_map(kind.optional_type.elem_type)
    return bool(kind.HasField("map_type"))


def to_bytes(model: ir.Model) -> bytes:
    """Serialize as the file was: without the value infos onnx-ir adds, sparse what was sparse."""
    proto = to_proto(model)
    gather_sequences(model, proto)
    stored = stored_tensors(model).values()
    sparse = {s.value.name or "" for s in stored if s.value.meta.get("storage") == "sparse"}
    for graph in proto_graphs(proto):
        if not isinstance(graph, onnx.GraphProto):
            continue
        initializers = {tensor.name for tensor in graph.initializer}
        for index in reversed(range(len(graph.value_info))):
            info = graph.value_info[index]
            if info.name in initializers and not info.metadata_props:
                del graph.value_info[index]
    if sparse:
        sparsify(proto, sparse)
    return bytes(proto.SerializeToString(deterministic=True))
