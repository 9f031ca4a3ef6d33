"""Writing a model file, and the data file beside it, atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]

from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError, UsageError
from onnx_unipts.graph.model.proto import to_bytes
from onnx_unipts.graph.model.scopes import proto_graphs
from onnx_unipts.graph.model.size import fits_one_file
from onnx_unipts.graph.model.tensors import stored_tensors

__all__ = ["data_locations", "save_model", "writing"]

# Tensors below this stay in the model file, so that shapes can be inferred without the data file.
EXTERNAL_THRESHOLD = 1024
# Offsets in the data file: what every element type can be mapped at.
EXTERNAL_ALIGNMENT = 64
# Models with a data file are smaller than this themselves.
LARGEST_BESIDE = 1 << 26
# What is no fault of the arguments: no space, no quota, a broken disk.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def save_model(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write ``model`` to ``path``, atomically: the file is complete or unchanged.

    Weights that came from a data file, and all of them in a model over 2 GB, go to
    ``<name>.data`` beside the model, which is in place before the model is. Where such a file is
    there already, of the model at ``path`` or of another one, it becomes ``<name>.1.data`` and so
    on, so that every model and its data belong together at every moment; that of the old model at
    ``path`` is removed at last. Overwriting the file the model was loaded from is safe. Raises
    `UsageError` where ``path`` cannot be written, `OnnxUniptsError` where the disk is full.
    """
    target = Path(os.path.realpath(path))
    _check_target(target, path)
    external = _to_store_externally(model)
    try:
        with writing(path), contextlib.ExitStack() as stack:
            if external:
                _save_with_data(model, external, target, stack)
            else:
                _write(stack, _temporary(target), [to_bytes(model)])
                _move_into_place(target)
    except EncodeError as error:
        raise UnsupportedModelError(f"{path}: too large for an ONNX file: {error}") from error


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name ``path`` where it cannot be written: `UsageError`, or `OnnxUniptsError` of the disk."""
    try:
        yield
    except OSError as error:
        kind = OnnxUniptsError if error.errno in DISK_ERRORS else UsageError
        raise kind(f"{path}: cannot be written: {error.strerror or error}") from error


def _check_target(target: Path, given: str | os.PathLike[str]) -> None:
    if target.is_dir():
        raise UsageError(f"{given}: is a directory; give the path of a file to write")
    if target.exists() and not target.is_file():
        raise UsageError(f"{given}: exists and is not a regular file; give another path")
    if not target.parent.is_dir():
        raise UsageError(f"{given}: no directory {target.parent} to write to; create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{given}: directory {target.parent} is not writable")


def _to_store_externally(model: ir.Model) -> list[ir.Value]:
    oversized = not fits_one_file(model)
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
                doc_string=tensor.doc_string,
                metadata_props=dict(tensor.metadata_props),
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
    old = [target.with_name(name) for name in data_locations(target) if _is_own(name, target)]
    new = _free_data_file(target)
    references = _write_external_data(external, stack, new)
    with _substituted(references):
        _write(stack, _temporary(target), [to_bytes(model)])
    if target.exists():
        os.chmod(_temporary(new), target.stat().st_mode & 0o7777)
    _move_into_place(new)
    try:
        _move_into_place(target)
    except OSError:
        new.unlink()
        raise
    others = _data_of_others(target) if old else set()
    for path in old:
        if path.name not in others:
            path.unlink(missing_ok=True)


def _data_of_others(target: Path) -> set[str]:
    """Return the data files that models beside ``target`` refer to, such as copies of it."""
    beside = (p for p in target.parent.glob("*.onnx") if p != target and p.is_file())
    small = (path for path in beside if path.stat().st_size <= LARGEST_BESIDE)
    return {name for path in small for name in data_locations(path)}


def _free_data_file(target: Path) -> Path:
    """Return where the data of ``target`` goes: to no file that is there, whosever it is.

    A writer killed between its two files leaves one that nothing refers to.
    """
    numbers = (f".{number}" if number else "" for number in count())
    paths = (target.with_name(f"{target.name}{number}.data") for number in numbers)
    return next(path for path in paths if not path.exists())


def _is_own(name: str, target: Path) -> bool:
    """Tell whether a data file called ``name`` is one that `save_model` writes for ``target``."""
    return re.fullmatch(re.escape(target.name) + r"(\.\d+)?\.data", name) is not None


def data_locations(target: Path) -> set[str]:
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
