"""The files that a model consists of: the ONNX file, and the data files that it refers to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from onnx_unipts.graph.model import from_proto, is_ort_format, stored_tensors

__all__ = ["data_files", "digest"]

CHUNK_BYTES = 1 << 20


def data_files(path: str | os.PathLike[str]) -> list[Path]:
    """Return the data files of the model file ``path``, which `load_model` has accepted."""
    if is_ort_format(path):
        return []
    model = from_proto(onnx.load(path, load_external_data=False))
    tensors = (stored.tensor for stored in stored_tensors(model).values())
    names = (os.fspath(t.location) for t in tensors if isinstance(t, ir.ExternalTensor))
    return [Path(path).parent / name for name in dict.fromkeys(names)]


def digest(paths: Sequence[Path]) -> str:
    """Return the sha256 of the files' contents, one behind the other, as hexadecimal digits."""
    sha256 = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                sha256.update(chunk)
    return sha256.hexdigest()
