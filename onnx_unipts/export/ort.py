"""The format ``ort``: for onnxruntime mobile, with the configuration of the operators it needs.

Packed weights would be folded and stored dense. What stays small in this format are sparse
initializers, as long as no fusion changes them; so normalisations are folded before.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from onnx_unipts.export.choice import required_operators
from onnx_unipts.export.quiet import quiet
from onnx_unipts.export.sparse_initializer import mark_sparse, require_one_file
from onnx_unipts.export.storage import FORMATS, Storage, Written
from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError, UsageError
from onnx_unipts.graph.model import to_bytes
from onnx_unipts.graph.normalization.merging import fold_normalizations
from onnx_unipts.graph.reason import reason_of
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.graph.sequence_inputs import holds_sequences
from onnx_unipts.output_file import atomic_path

__all__ = ["Ort"]

# Specific to the machine that converts, and it reorders weights, which makes them dense.
MACHINE_SPECIFIC = "NchwcTransformer"
# What writes new weights, and stores them dense, where the model leaves a reason for it.
REWRITING = (
    "ConstantFolding",
    "ConvAddFusion",
    "ConvBNFusion",
    "ConvMulFusion",
    "MatMulAddFusion",
    "MatMulBNFusion",
    "TransposeOptimizer",
)
# By how much the file may exceed the sparse ONNX file, whose indices are wider.
SLACK = 1.02
SLACK_BYTES = 32_768


@FORMATS.register("ort")
class Ort:
    """Written by the converter's steps of onnxruntime, for any processor."""

    suffix = ".ort"

    def check(self, model: ir.Model) -> None:
        """Refuse models over 2 GB, and those with sequence inputs, which are not verified."""
        require_one_file(model, "ort")
        if holds_sequences(model):
            raise UnsupportedModelError(
                "the model has an input that is a sequence; use --format packed instead of ort"
            )

    def write(self, model: ir.Model, path: Path, storage: Storage) -> Written:
        """Write ``model`` and beside it ``<stem>.required_operators.config``.

        Raises `OnnxUniptsError` if onnxruntime stores the weights dense all the same.
        """
        if path.suffix != self.suffix:
            raise UsageError(
                f"{path}: onnxruntime tells this format by its ending; give a name that ends in "
                f"{self.suffix}"
            )
        self.check(model)
        model = runnable(model)
        fold_normalizations(model)
        marked = mark_sparse(model, _index_bytes)
        content = to_bytes(model)
        with atomic_path(path) as temporary:
            warnings = _convert(content, temporary, path, bool(marked))
        config = required_operators(path)
        _write_config(path, config)
        return Written(storage, marked, [config], warnings)


def _index_bytes(elements: int) -> int:
    """Return how wide onnxruntime stores the indices of a tensor with so many elements."""
    return next(width for width in (1, 2, 4, 8) if elements <= 2 ** (8 * width - 1))


def _convert(content: bytes, temporary: Path, path: Path, sparse: bool) -> list[str]:
    most = int(SLACK * len(content)) + SLACK_BYTES
    for disabled in ((), REWRITING):
        _save(content, temporary, (MACHINE_SPECIFIC, *disabled), path)
        if not sparse or temporary.stat().st_size <= most:
            return _warnings(sparse, bool(disabled))
    raise OnnxUniptsError(
        f"{path}: onnxruntime stores the weights dense ({temporary.stat().st_size} bytes for "
        f"{len(content)} of the sparse ONNX file), as it rewrites them; use --format packed"
    )


def _warnings(sparse: bool, limited: bool) -> list[str]:
    if not sparse:
        return ["no weight gets smaller as a sparse initializer"]
    if limited:
        return ["fusions that would make weights dense are left out of the .ort file"]
    return []


def _save(content: bytes, target: Path, disabled: Sequence[str], path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(target)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    try:
        onnxruntime.InferenceSession(
            content,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(disabled),
        )
    except Exception as error:
        raise UnsupportedModelError(
            f"{path}: onnxruntime cannot convert the model: {reason_of(error)}; use --format packed"
        ) from error


def _write_config(path: Path, config: Path) -> None:
    """Write the operators that ``path`` needs, for a build of onnxruntime with no others."""
    # It sets up logging for the whole process, and says what it does.
    with quiet(logging.INFO):
        from onnxruntime.tools.ort_format_model import create_config_from_models

        with atomic_path(config) as temporary:
            create_config_from_models([path], temporary, False)
