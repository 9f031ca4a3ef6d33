"""Reading and writing model files: checked on the way in, atomic on the way out."""

from __future__ import annotations

import contextlib
import logging
import math
import mmap
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]

from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.packing import unpack

__all__ = [
    "Scope",
    "StoredTensor",
    "find_nonfinite",
    "fits_one_file",
    "from_proto",
    "is_ort_format",
    "iterate_scopes",
    "load_model",
    "node_label",
    "proto_graphs",
    "read_tensors",
    "save_model",
    "serialize",
    "stored_tensors",
    "to_bytes",
    "to_proto",
    "write_lazily",
    "write_tensors",
]

# A protobuf message ends at 2 GiB; the slack is for what is not weights.
PROTOBUF_LIMIT = 2**31 - 2**24
# Tensors below this stay in the model file, so that shapes can be inferred without the data file.
EXTERNAL_THRESHOLD = 1024
# Offsets in the data file: what every element type can be mapped at.
EXTERNAL_ALIGNMENT = 64

# Where a file in onnxruntime's own format says so, in its second four bytes.
ORT_IDENTIFIER = b"ORTM"

# What turns files of these endings into ONNX.
EXPORTERS = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".safetensors"), "torch.onnx.export"),
    **dict.fromkeys((".h5", ".keras", ".pb", ".tflite"), "tf2onnx"),
}

Scope = ir.Graph | ir.Function

# A shape whose element type is not known is left out of a file, and onnx-ir warns of every one.
logging.getLogger("onnx_ir.serde").addFilter(
    lambda record: "Skipping serialization" not in str(record.msg)
)


def load_model(path: str | os.PathLike[str], *, unpacked: bool = True) -> ir.Model:
    """Read an ONNX file; external data is memory-mapped and independent of the file from then on.

    Sparse initializers become dense in memory and sparse again when saved. Packed weights become
    plain tensors (`onnx_unipts.graph.packing`), and stay so; without ``unpacked`` they are checked
    and left as they are. Nothing is refused that a runtime may accept: the strict checker of the
    onnx package is not asked.

    Raises `UnsupportedModelError` for a file that is missing, not ONNX, truncated or empty, of an
    IR version or opset newer than the installed onnx knows, with external data that is missing,
    too short, or outside the directory of the model, or with sparse or packed weights whose indices
    or counts do not fit.
    """
    path = Path(path)
    proto = _parse(path)
    _check_versions(proto, path)
    try:
        model = from_proto(proto)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{path}: {error}") from error
    except Exception as error:
        reason = str(_first_cause(error)).splitlines()[0]
        raise UnsupportedModelError(f"{path}: not a valid ONNX graph: {reason}") from error
    _sort(model, path)
    _map_external_data(model, path)
    _check_tensors(model, path)
    try:
        unpack(model if unpacked else model.clone())
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{path}: {error}") from error
    return model


def is_ort_format(path: str | os.PathLike[str]) -> bool:
    """Tell whether the file ``path`` is in onnxruntime's own format, not an ONNX file."""
    with open(path, "rb") as file:
        return file.read(8)[4:] == ORT_IDENTIFIER


def save_model(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write ``model`` to ``path``, atomically: the file is complete or unchanged.

    Weights that came from a data file, and all of them in a model over 2 GB, go to
    ``<name>.data`` beside the model, which is in place before the model is. Over a model that has
    such a file already it becomes ``<name>.1.data``, so that the model at ``path`` and its data
    belong together at every moment; the old data file is removed at last. Overwriting the file the
    model was loaded from is safe. Raises `UsageError` where ``path`` cannot be written.
    """
    target = Path(os.path.realpath(path))
    _check_target(target, path)
    external = _to_store_externally(model)
    try:
        with contextlib.ExitStack() as stack:
            if external:
                _save_with_data(model, external, target, stack)
            else:
                _write(stack, _temporary(target), [to_bytes(model)])
                _move_into_place(target)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
    except EncodeError as error:
        raise UnsupportedModelError(f"{path}: too large for an ONNX file: {error}") from error


def serialize(model: ir.Model) -> bytes:
    """Return ``model`` as one ONNX file in memory, all weights inside, for an onnxruntime session.

    Raises `UnsupportedModelError` over 2 GB, where a session must be given the path of a file.
    """
    if _size(model) > PROTOBUF_LIMIT:
        raise UnsupportedModelError(
            f"the model holds {_size(model)} bytes of weights; over {PROTOBUF_LIMIT} it has to be "
            "saved with external data and run by its path"
        )
    return bytes(to_proto(model).SerializeToString())


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """Turn a proto, which is changed, into onnx-ir, with what onnx-ir knows no form for set aside.

    That is sparse storage, dense in memory, and map types, kept as bytes; `to_proto` restores them.
    """
    types = _set_types_aside(proto.graph)
    sparse = _densify(proto)
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


def read_tensors(model: ir.Model, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return stored tensors by name, or by ``scope:name`` within a subgraph or function.

    The arrays have the stored shape and dtype (bfloat16 as the type of ml_dtypes) and are views
    that must not be written to. Raises `KeyError` for a name that is not a stored tensor.
    """
    stored = stored_tensors(model)
    return {name: stored[name].numpy() for name in names}


def write_tensors(model: ir.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Replace stored tensors in place; each is cast to the dtype it has in the file.

    Initializers stay initializers, Constant nodes Constant nodes. Raises `KeyError` for an unknown
    name and `ValueError` for another shape than the stored one.
    """
    stored = stored_tensors(model)
    for name, array in arrays.items():
        stored[name].write(array)


def write_lazily(model: ir.Model, makers: Mapping[str, Callable[[], np.ndarray]]) -> None:
    """Replace stored tensors in place by what the ``makers`` return whenever they are read.

    So that a model over 2 GB is pruned while it is written, one tensor in memory at a time. The
    arrays have the stored shape and are cast to the stored dtype.
    """
    stored = stored_tensors(model)
    for name, make in makers.items():
        record = stored[name]
        if record.attribute:
            record.write(make())
            continue
        old = record.tensor

        def tensor(make: Callable[[], np.ndarray] = make, old: Any = old) -> ir.Tensor:
            values = np.ascontiguousarray(make().astype(old.dtype.numpy(), copy=False))
            return ir.Tensor(values, dtype=old.dtype, name=old.name)

        shape = ir.Shape(old.shape.numpy())
        record.value.const_value = ir.LazyTensor(tensor, old.dtype, shape, name=old.name)


def fits_one_file(model: ir.Model) -> bool:
    """Say whether ``model`` can be one protobuf message: its weights take less than 2 GB."""
    return _size(model) <= PROTOBUF_LIMIT


def find_nonfinite(model: ir.Model, names: Iterable[str] | None = None) -> str | None:
    """Return the key of the first stored float tensor with a value that is not finite, or None.

    Given ``names``, only those are looked at, for NaN and infinity. Without, all are, for NaN only:
    infinity is what attention masks are made of.
    """
    stored = stored_tensors(model)
    for key in stored if names is None else names:
        tensor = stored[key].tensor
        if not tensor.dtype.is_floating_point():
            continue
        array = stored[key].numpy()
        broken = np.isnan(array) if names is None else ~np.isfinite(array)
        if broken.any():
            return key
    return None


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of the file: an initializer, or what a Constant node holds in ``attribute``."""

    scope: str
    value: ir.Value
    attribute: str = ""

    @property
    def tensor(self) -> ir.TensorProtocol:
        """The tensor as onnx-ir holds it; its shape and dtype cost nothing."""
        if not self.attribute:
            assert self.value.const_value is not None
            return self.value.const_value
        attribute = self._node.attributes[self.attribute]
        if attribute.type == ir.AttributeType.TENSOR:
            return attribute.as_tensor()
        kind = np.float32 if attribute.type in _FLOAT_ATTRIBUTES else np.int64
        return ir.tensor(np.array(attribute.value, dtype=kind), name=self.value.name)

    def numpy(self) -> np.ndarray:
        """Return the values in the stored shape and dtype."""
        return self.tensor.numpy()

    def write(self, array: np.ndarray, *, resize: bool = False) -> None:
        """Replace the values; ``array`` is cast to the stored dtype.

        It has the stored shape, or any of that rank with ``resize``.
        """
        old = self.tensor
        shape = tuple(old.shape.numpy())
        if array.shape != shape and not (resize and array.ndim == len(shape)):
            raise ValueError(f"{self.value.name}: shape {array.shape} written over {shape}")
        values = np.ascontiguousarray(array.astype(old.dtype.numpy())).reshape(array.shape)
        new = ir.Tensor(values, dtype=old.dtype, name=old.name, doc_string=old.doc_string)
        if not self.attribute:
            self.value.const_value = new
            return
        self._node.attributes[self.attribute] = self._attribute(new)
        if self.value.const_value is not None:
            self.value.const_value = new

    def _attribute(self, tensor: ir.Tensor) -> ir.Attr:
        name, kind = self.attribute, self._node.attributes[self.attribute].type
        if kind == ir.AttributeType.TENSOR:
            return ir.AttrTensor(name, tensor)
        values = tensor.numpy().tolist()
        return ir.Attr(name, kind, tuple(values) if isinstance(values, list) else values)

    @property
    def _node(self) -> ir.Node:
        node = self.value.producer()
        assert node is not None
        return node


_FLOAT_ATTRIBUTES = (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS)
_CONSTANT_ATTRIBUTES = ("value", "value_float", "value_floats", "value_int", "value_ints")


def stored_tensors(model: ir.Model) -> dict[str, StoredTensor]:
    """Return every initializer and Constant by its key: the name, or ``scope:name``."""
    found: dict[str, StoredTensor] = {}
    for scope, graph in iterate_scopes(model):
        for stored in _stored_in(scope, graph):
            name = stored.value.name or ""
            found.setdefault(f"{scope}:{name}" if scope else name, stored)
    return found


def _stored_in(scope: str, graph: Scope) -> Iterator[StoredTensor]:
    if isinstance(graph, ir.Graph):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield StoredTensor(scope, value)
    for node in graph:
        if node.op_type != "Constant" or node.domain:
            continue
        for attribute in _CONSTANT_ATTRIBUTES:
            if attribute in node.attributes and not node.attributes[attribute].is_ref():
                yield StoredTensor(scope, node.outputs[0], attribute)


def iterate_scopes(model: ir.Model) -> Iterator[tuple[str, Scope]]:
    """Yield the main graph as ``""``, the graphs in it, then the functions, each with its path.

    A subgraph is ``<scope of the node>/<node>.<attribute>``, a function ``fn:<domain>.<name>``.
    """
    seen: set[str] = set()
    roots: list[tuple[str, Scope]] = [("", model.graph)]
    roots += [(f"fn:{f.domain}.{f.name}", f) for f in model.functions.values()]
    for root in roots:
        for scope, graph in _nested(*root):
            number = 2
            unique = scope
            while unique in seen:
                unique = f"{scope}#{number}"
                number += 1
            seen.add(unique)
            yield unique, graph


def _nested(scope: str, graph: Scope) -> Iterator[tuple[str, Scope]]:
    yield scope, graph
    for node in graph:
        for name, attribute in node.attributes.items():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _nested(f"{scope}/{node_label(node)}.{name}", attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS:
                for index, body in enumerate(attribute.as_graphs()):
                    yield from _nested(f"{scope}/{node_label(node)}.{name}[{index}]", body)


def node_label(node: ir.Node) -> str:
    """Return the name of a node, or of its first output where it has none."""
    return node.name or next((o.name for o in node.outputs if o.name), None) or node.op_type


# Reading


def _not_onnx(path: Path) -> str:
    remedy = EXPORTERS.get(path.suffix.lower())
    if remedy is None:
        return "not an ONNX file, or a truncated one"
    return f"not an ONNX file; export the model to ONNX first, with {remedy}"


def _parse(path: Path) -> onnx.ModelProto:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UnsupportedModelError(f"{path}: no such file") from error
    except OSError as error:
        raise UnsupportedModelError(
            f"{path}: cannot be read: {error.strerror}; give the path of an .onnx file"
        ) from error
    if not content:
        raise UnsupportedModelError(f"{path}: the file is empty")
    if content.startswith(b"version https://git-lfs"):
        raise UnsupportedModelError(f"{path}: a Git LFS pointer, not the model; run `git lfs pull`")
    if content[4:8] == ORT_IDENTIFIER:
        raise UnsupportedModelError(
            f"{path}: a model in ORT format; give the .onnx file it is from"
        )
    try:
        proto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise UnsupportedModelError(
            f"{path}: over 2 GB in one file; save it with external data"
            if len(content) > PROTOBUF_LIMIT
            else f"{path}: {_not_onnx(path)}"
        ) from error
    if not proto.graph.node or not proto.graph.output:
        raise UnsupportedModelError(
            f"{path}: the file holds no graph with nodes and outputs; it is not an ONNX model, or "
            "truncated"
        )
    return proto


def _check_versions(proto: onnx.ModelProto, path: Path) -> None:
    if proto.ir_version > onnx.IR_VERSION:
        raise UnsupportedModelError(
            f"{path}: IR version {proto.ir_version}; the installed onnx {onnx.__version__} reads "
            f"up to {onnx.IR_VERSION}"
        )
    if not proto.opset_import and proto.ir_version >= 3:
        raise UnsupportedModelError(f"{path}: declares no opset; the file is truncated")
    newest = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            raise UnsupportedModelError(
                f"{path}: opset {opset.version}; the installed onnx {onnx.__version__} knows up to "
                f"{newest}"
            )


def _check_tensors(model: ir.Model, path: Path) -> None:
    for key, stored in stored_tensors(model).items():
        try:
            stored.numpy()
        except Exception as error:
            raise UnsupportedModelError(
                f"{path}: tensor {key!r} holds other data than its shape and type say: {error}"
            ) from error


def _sort(model: ir.Model, path: Path) -> None:
    """Bring nodes behind those that they read from: runtimes take them in any order."""
    for graph in _all_graphs(model):
        seen: set[ir.Node] = set()
        for node in graph:
            makers = (value.producer() for value in node.inputs if value is not None)
            if any(maker.graph is graph and maker not in seen for maker in makers if maker):
                break
            seen.add(node)
        else:
            continue
        try:
            graph.sort()
        except ValueError as error:
            raise UnsupportedModelError(
                f"{path}: the nodes of the graph read from each other in a circle"
            ) from error


def _map_external_data(model: ir.Model, path: Path) -> None:
    """Replace references into data files by arrays mapped from them.

    A mapping outlives the file's name, so the model stays whole when its own file is overwritten,
    and one mapping per file spares the file handles that one per tensor would take.
    """
    maps: dict[Path, mmap.mmap] = {}
    for graph in _all_graphs(model):
        for value in graph.initializers.values() if isinstance(graph, ir.Graph) else ():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _map_tensor(value.const_value, path, maps)
                value.meta["storage"] = "external"
        for node in graph:
            for name, attribute in node.attributes.items():
                if attribute.is_ref() or attribute.type != ir.AttributeType.TENSOR:
                    continue
                tensor = attribute.as_tensor()
                if isinstance(tensor, ir.ExternalTensor):
                    mapped = _map_tensor(tensor, path, maps)
                    node.attributes[name] = ir.AttrTensor(name, mapped)


def _map_tensor(
    tensor: ir.ExternalTensor, path: Path, maps: dict[Path, mmap.mmap]
) -> ir.TensorProtocol:
    where = f"{path}: external data of tensor {tensor.name!r}"
    file = _data_file(os.fspath(tensor.location), path, where)
    begin, length = tensor.offset or 0, tensor.nbytes
    size = file.stat().st_size
    if begin < 0 or begin + length > size or (tensor.length or length) < length:
        raise UnsupportedModelError(
            f"{where}: {length} bytes at offset {begin} of {tensor.location!r}, which has {size}; "
            "the file is truncated or belongs to another model"
        )
    if not length:
        buffer = memoryview(b"")
    else:
        if file not in maps:
            with open(file, "rb") as stream:
                maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        buffer = memoryview(maps[file])[begin : begin + length]
    shape = tuple(tensor.shape.numpy())
    if tensor.dtype.bitwidth < 8:
        packed = np.frombuffer(buffer, dtype=np.uint8)
        return ir.PackedTensor(packed, tensor.dtype, shape=shape, name=tensor.name)
    array = np.frombuffer(buffer, dtype=tensor.dtype.numpy()).reshape(shape)
    return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)


def _data_file(location: str, path: Path, where: str) -> Path:
    """Resolve ``location``, which must stay within the directory of the model."""
    directory = path.parent.resolve()
    file = (directory / location).resolve()
    if not location or os.path.isabs(location) or not file.is_relative_to(directory):
        raise UnsupportedModelError(
            f"{where} points to {location!r}, outside the directory of the model; refused. Put the "
            "data file beside the model and give a relative location"
        )
    if not file.is_file():
        raise UnsupportedModelError(f"{where}: no file {location!r} in {directory}")
    return file


def _all_graphs(model: ir.Model) -> Iterator[Scope]:
    for _, graph in iterate_scopes(model):
        yield graph


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _set_types_aside(graph: onnx.GraphProto) -> dict[str, bytes]:
    """Clear the types onnx-ir cannot express (maps and what holds them); return them by name."""
    types: dict[str, bytes] = {}
    for info in (*graph.input, *graph.output, *graph.value_info):
        if _holds_map(info.type):
            types[info.name] = info.type.SerializeToString()
            info.ClearField("type")
    return types


def _holds_map(kind: onnx.TypeProto) -> bool:
    if kind.HasField("sequence_type"):
        return _holds_map(kind.sequence_type.elem_type)
    if kind.HasField("optional_type"):
        return _holds_map(kind.optional_type.elem_type)
    return bool(kind.HasField("map_type"))


# Sparse storage: onnx-ir knows none, so it is dense in memory and sparse in the file.


def _densify(proto: onnx.ModelProto) -> set[str]:
    """Turn sparse initializers and Constants into dense ones; return their names."""
    names: set[str] = set()
    for graph in proto_graphs(proto):
        if isinstance(graph, onnx.GraphProto):
            dense = {tensor.name for tensor in graph.initializer}
            for sparse in graph.sparse_initializer:
                if sparse.values.name in dense:
                    raise UnsupportedModelError(
                        f"tensor {sparse.values.name!r} is stored twice, dense and sparse, and "
                        "runtimes differ in which they use"
                    )
                graph.initializer.append(_dense_tensor(sparse))
                names.add(sparse.values.name)
            graph.ClearField("sparse_initializer")
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "sparse_value":
                    value = _dense_tensor(attribute.sparse_tensor)
                    attribute.CopyFrom(onnx.helper.make_attribute("value", value))
                    names.add(node.output[0])
    return names


def _sparsify(proto: onnx.ModelProto, names: Collection[str]) -> None:
    for graph in proto_graphs(proto):
        if isinstance(graph, onnx.GraphProto):
            for index in reversed(range(len(graph.initializer))):
                if graph.initializer[index].name in names:
                    graph.sparse_initializer.append(_sparse_tensor(graph.initializer[index]))
                    del graph.initializer[index]
        for node in graph.node:
            if node.op_type == "Constant" and node.output[0] in names:
                sparse = _sparse_tensor(node.attribute[0].t)
                del node.attribute[:]
                node.attribute.append(onnx.helper.make_attribute("sparse_value", sparse))


def _dense_tensor(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """Expand COO storage; indices are linear (nnz,) or per axis (nnz, rank), ascending.

    Raises `UnsupportedModelError` where they do not fit: some runtimes write wherever they point.
    """
    name, shape = sparse.values.name, tuple(sparse.dims)
    try:
        values = onnx.numpy_helper.to_array(sparse.values)
        indices = onnx.numpy_helper.to_array(sparse.indices)
    except Exception as error:
        raise UnsupportedModelError(
            f"sparse tensor {name!r}: its data has another length than its shape says"
        ) from error
    problem = _sparse_problem(values, indices, shape)
    if problem:
        raise UnsupportedModelError(f"sparse tensor {name!r}: {problem}; the file is damaged")
    if indices.ndim == 2:
        indices = np.ravel_multi_index(tuple(indices.T), shape) if len(shape) else indices[:, 0]
    dense = np.zeros(math.prod(shape), dtype=values.dtype)
    dense[indices] = values
    return onnx.numpy_helper.from_array(dense.reshape(shape), name)


def _sparse_problem(values: np.ndarray, indices: np.ndarray, shape: tuple[int, ...]) -> str:
    """Say what is wrong with a sparse tensor; an empty string if nothing is."""
    if any(axis < 0 for axis in shape) or math.prod(shape) > PROTOBUF_LIMIT:
        return f"its shape is {list(shape)}"
    count = len(values) if values.ndim == 1 else -1
    if indices.shape not in ((count,), (count, len(shape))):
        return f"{list(values.shape)} values have indices of shape {list(indices.shape)}"
    if not np.issubdtype(indices.dtype, np.integer):
        return f"its indices are of type {indices.dtype}"
    limits = np.array(shape) if indices.ndim == 2 else math.prod(shape)
    if ((indices < 0) | (indices >= limits)).any():
        return f"an index is outside of its shape {list(shape)}"
    linear = indices
    if indices.ndim == 2 and len(shape):
        linear = np.ravel_multi_index(tuple(indices.T), shape)
    if (np.diff(linear) <= 0).any():
        return "an index stands twice or out of order"
    return ""


def _sparse_tensor(dense: onnx.TensorProto) -> onnx.SparseTensorProto:
    array = onnx.numpy_helper.to_array(dense).reshape(-1)
    # Not by value: a negative zero is stored.
    indices = np.flatnonzero(array.view(f"u{array.itemsize}")).astype(np.int64)
    return onnx.helper.make_sparse_tensor(
        onnx.numpy_helper.from_array(array[indices], dense.name),
        onnx.numpy_helper.from_array(indices),
        list(dense.dims),
    )


def proto_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield the main graph, the functions and every graph in them."""
    pending: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


# Writing


def to_bytes(model: ir.Model) -> bytes:
    """Serialize as the file was: without the value infos onnx-ir adds, sparse what was sparse."""
    proto = to_proto(model)
    stored = stored_tensors(model).values()
    sparse = {s.value.name or "" for s in stored if s.value.meta.get("storage") == "sparse"}
    for graph in proto_graphs(proto):
        if not isinstance(graph, onnx.GraphProto):
            continue
        initializers = {tensor.name for tensor in graph.initializer}
        for index in reversed(range(len(graph.value_info))):
            if graph.value_info[index].name in initializers:
                del graph.value_info[index]
    if sparse:
        _sparsify(proto, sparse)
    return bytes(proto.SerializeToString(deterministic=True))


def _check_target(target: Path, given: str | os.PathLike[str]) -> None:
    if target.is_dir():
        raise UsageError(f"{given}: is a directory; give the path of a file to write")
    if target.exists() and not target.is_file():
        raise UsageError(f"{given}: exists and is not a regular file; give another path")
    if not target.parent.is_dir():
        raise UsageError(f"{given}: no directory {target.parent} to write to; create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{given}: directory {target.parent} is not writable")


def _size(model: ir.Model) -> int:
    return sum(stored.tensor.nbytes for stored in stored_tensors(model).values())


def _to_store_externally(model: ir.Model) -> list[ir.Value]:
    oversized = _size(model) > PROTOBUF_LIMIT
    return [
        stored.value
        for stored in stored_tensors(model).values()
        if not stored.attribute
        and stored.tensor.dtype != ir.DataType.STRING
        and (stored.value.meta.get("storage") == "external" or oversized)
        and stored.tensor.nbytes >= EXTERNAL_THRESHOLD
    ]


def _write_external_data(
    values: Iterable[ir.Value], stack: contextlib.ExitStack, data: Path
) -> list[tuple[ir.Value, ir.ExternalTensor]]:
    """Write the tensors to the temporary file of ``data``; return the references into it."""
    references = []
    offset = 0

    def chunks() -> Iterator[bytes]:
        nonlocal offset
        for value in values:
            tensor = value.const_value
            assert tensor is not None
            padding = -offset % EXTERNAL_ALIGNMENT
            yield bytes(padding)
            offset += padding
            yield tensor.tobytes()
            reference = ir.ExternalTensor(
                data.name,
                offset,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name or "",
            )
            references.append((value, reference))
            offset += tensor.nbytes

    _write(stack, _temporary(data), chunks())
    return references


@contextlib.contextmanager
def _substituted(references: list[tuple[ir.Value, ir.ExternalTensor]]) -> Iterator[None]:
    originals = [value.const_value for value, _ in references]
    for value, reference in references:
        value.const_value = reference
    try:
        yield
    finally:
        for (value, _), original in zip(references, originals, strict=True):
            value.const_value = original


def _temporary(target: Path) -> Path:
    """One name per target: what a killed run left behind, the next one overwrites."""
    return target.with_name(f".{target.name}.partial")


def _write(stack: contextlib.ExitStack, temporary: Path, chunks: Iterable[bytes]) -> None:
    """Write and sync a temporary file, which ``stack`` removes if it is still there at the end."""
    stack.callback(temporary.unlink, missing_ok=True)
    with open(temporary, "wb") as stream:
        for chunk in chunks:
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())


def _move_into_place(target: Path) -> None:
    temporary = _temporary(target)
    if target.exists():
        os.chmod(temporary, target.stat().st_mode & 0o7777)
    os.replace(temporary, target)


def _save_with_data(
    model: ir.Model, external: list[ir.Value], target: Path, stack: contextlib.ExitStack
) -> None:
    in_use = _data_locations(target)
    first, second = (target.with_name(target.name + end) for end in (".data", ".1.data"))
    old, new = (first, second) if first.name in in_use else (second, first)
    references = _write_external_data(external, stack, new)
    with _substituted(references):
        _write(stack, _temporary(target), [to_bytes(model)])
    _move_into_place(new)
    try:
        _move_into_place(target)
    except OSError:
        new.unlink()
        raise
    if old.name in in_use:
        old.unlink(missing_ok=True)


def _data_locations(target: Path) -> set[str]:
    """Return the data files that the model at ``target``, if there is one, refers to."""
    try:
        proto = onnx.ModelProto.FromString(target.read_bytes())
    except (OSError, DecodeError):
        return set()
    tensors = (tensor for graph in proto_graphs(proto) for tensor in _initializers(graph))
    return {
        entry.value
        for tensor in tensors
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _initializers(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterable[onnx.TensorProto]:
    return graph.initializer if isinstance(graph, onnx.GraphProto) else ()
