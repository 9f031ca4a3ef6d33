"""External data: mapped into memory from the files that hold it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model.scopes import iterate_scopes

__all__ = ["map_external_data"]


def map_external_data(model: ir.Model, path: Path) -> None:
    """Replace references into data files by arrays mapped from them.

    A mapping outlives the file's name, so the model stays whole when its own file is overwritten,
    and one mapping per file spares the file handles that one per tensor would take.
    """
    maps: dict[Path, mmap.mmap] = {}
    for _, graph in iterate_scopes(model):
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
    described: Any = {
        "name": tensor.name,
        "doc_string": tensor.doc_string,
        "metadata_props": dict(tensor.metadata_props),
    }
    if tensor.dtype.bitwidth < 8:
        packed = np.frombuffer(buffer, dtype=np.uint8)
        return ir.PackedTensor(packed, tensor.dtype, shape=shape, **described)
    array = np.frombuffer(buffer, dtype=tensor.dtype.numpy()).reshape(shape)
    return ir.Tensor(array, dtype=tensor.dtype, **described)


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
