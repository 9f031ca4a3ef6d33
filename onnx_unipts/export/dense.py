"""The format ``dense``: zeros are stored as any other value."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from onnx_unipts.export.storage import FORMATS, Storage, Written, forget_sparse
from onnx_unipts.graph.model import save_model

__all__ = ["Dense"]


@FORMATS.register("dense")
class Dense:
    """Plain initializers, which every tool reads."""

    suffix = ".onnx"

    def check(self, model: ir.Model) -> None:
        """Accept every model."""

    def write(self, model: ir.Model, path: Path, storage: Storage) -> Written:
        """Write ``model``; what was sparse in its file is dense, too."""
        forget_sparse(model)
        save_model(model, path)
        return Written(storage)
