"""Whether two models are versions of one: what they are fed, and what comes out."""

from __future__ import annotations

import onnx_ir as ir

from onnx_unipts.arguments import ModelPath
from onnx_unipts.graph.errors import UsageError

__all__ = ["check_same_signature"]


def check_same_signature(dense: ir.Model, sparse: ir.Model, path: ModelPath) -> None:
    """Raise `UsageError` if ``sparse``, in the file ``path``, has other inputs or outputs.

    Weights that a model of old lists among its inputs are none.
    """
    for kind in ("inputs", "outputs"):
        ours, theirs = (
            [value.name for value in getattr(model.graph, kind) if not value.is_initializer()]
            for model in (dense, sparse)
        )
        if ours != theirs:
            raise UsageError(
                f"{path}: its {kind} are {', '.join(map(str, theirs))}, the dense model's are "
                f"{', '.join(map(str, ours))}; give two versions of one model"
            )
