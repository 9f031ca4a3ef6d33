"""The format ``packed``: small weights, unpacked by standard operators when a model is loaded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from onnx_unipts.export.storage import FORMATS, Storage, Written, forget_sparse
from onnx_unipts.graph.model import save_model
from onnx_unipts.graph.packing import check_packable, pack

__all__ = ["Packed"]


@FORMATS.register("packed")
class Packed:
    """See `onnx_unipts.graph.packing`."""

    suffix = ".onnx"

    def check(self, model: ir.Model) -> None:
        """Refuse opsets below 11 and IR versions below 4."""
        check_packable(model)

    def write(self, model: ir.Model, path: Path, storage: Storage) -> Written:
        """Pack ``model`` and write it."""
        forget_sparse(model)
        packing = pack(model, storage.pack, half=storage.values == "float16")
        save_model(model, path)
        written = Written(storage, [asdict(weight) for weight in packing.packed])
        if not packing.packed:
            written.warnings.append("no weight gets smaller when packed; the file is a dense one")
        return written
