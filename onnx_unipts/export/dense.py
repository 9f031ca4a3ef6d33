"""The format ``dense``: zeros are stored as any other value."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from onnx_unipts.export.storage import FORMATS, Storage, Written
from onnx_unipts.graph.model import save_model, stored_tensors

__all__ = ["Dense"]


@FORMATS.register("dense")
class Dense:
    """Plain initializers, which every tool reads."""

    suffix = ".onnx"

    def check(self, model: ir.Model) -> None:
        """Accept every model."""

    def write(self, model: ir.Model, path: Path, storage: Storage) -> Written:
        """Write ``model``; what was sparse in its file is dense, too."""
        for stored in stored_tensors(model).values():
            if stored.value.meta.get("storage") == "sparse":
                del stored.value.meta["storage"]
        save_model(model, path)
        return Written(storage)
