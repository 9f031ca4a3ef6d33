"""Reading a model file, checked on the way in."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model.mapping import map_external_data
from onnx_unipts.graph.model.proto import from_proto
from onnx_unipts.graph.model.scopes import iterate_scopes
from onnx_unipts.graph.model.size import PROTOBUF_LIMIT
from onnx_unipts.graph.model.tensors import stored_tensors
from onnx_unipts.graph.nodes import values_read
from onnx_unipts.graph.packing import unpack
from onnx_unipts.graph.reason import reason_of
from onnx_unipts.graph.sequence_inputs import spread_sequences

__all__ = ["is_ort_format", "load_model"]

# Where a file in onnxruntime's own format says so, in its second four bytes.
ORT_IDENTIFIER = b"ORTM"
# What turns files of these endings into ONNX.
EXPORTERS = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".safetensors"), "torch.onnx.export"),
    **dict.fromkeys((".h5", ".keras", ".pb", ".tflite"), "tf2onnx"),
}


def load_model(path: str | os.PathLike[str], *, unpacked: bool = True) -> ir.Model:
    """Read an ONNX file; external data is memory-mapped and independent of the file from then on.

    Sparse initializers become dense in memory and sparse again when saved. Packed weights become
    plain tensors (`onnx_unipts.graph.packing`), and stay so; without ``unpacked`` they are checked
    and left as they are. An input that is a sequence becomes several tensors
    (`onnx_unipts.graph.sequence_inputs`) and a sequence again when saved. Nothing is refused that a
    runtime may accept: the strict checker of the onnx package is not asked.

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
        reason = reason_of(_first_cause(error))
        raise UnsupportedModelError(f"{path}: not a valid ONNX graph: {reason}") from error
    _sort(model, path)
    map_external_data(model, path)
    _check_tensors(model, path)
    plain = model if unpacked else model.clone()
    try:
        unpack(plain)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{path}: {error}") from error
    spread_sequences(model, plain)
    return model


def is_ort_format(path: str | os.PathLike[str]) -> bool:
    """Tell whether the file ``path`` is in onnxruntime's own format, not an ONNX file."""
    with open(path, "rb") as file:
        return file.read(8)[4:] == ORT_IDENTIFIER


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
    for _, graph in iterate_scopes(model):
        seen: set[ir.Node] = set()
        for node in graph:
            makers = (value.producer() for value in values_read(node))
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


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
