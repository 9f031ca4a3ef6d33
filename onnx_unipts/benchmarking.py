"""What a sparse model file gains beside the dense one: size, load time, latency and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.arguments import ModelPath, at_least, check_kinds, model_file, threads_of
from onnx_unipts.calibration import (
    InputSpec,
    Preprocessing,
    input_signature,
    is_synthetic,
    load_calibration_data,
)
from onnx_unipts.environment import check_training_runtime
from onnx_unipts.external_data import data_files
from onnx_unipts.gains import gains, recognized
from onnx_unipts.graph.dynamic_batch import batching_of
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.graph.model import is_ort_format, load_model
from onnx_unipts.graph.prunable import KINDS, find_prunable
from onnx_unipts.measurement import measure
from onnx_unipts.probing import with_running_sizes
from onnx_unipts.report.document import benchmark_document
from onnx_unipts.report.files import describe_file
from onnx_unipts.report.storage import entropy_bound
from onnx_unipts.report.zeros import INTEGERS, dense_name, zeros_against
from onnx_unipts.same_signature import check_same_signature

__all__ = ["benchmark"]

SECONDS = 10.0
MOST_BRIEF = 0.01


def benchmark(
    dense: ModelPath,
    sparse: ModelPath,
    *,
    data: Any = None,
    preprocessing: Preprocessing | str | None = None,
    input_shapes: dict[str, tuple[int, ...]] | None = None,
    threads: int = 1,
    batch_size: int = 1,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Measure the model files ``dense`` and ``sparse`` in turn and return the document of it.

    ``dense`` and ``sparse``: files and sizes, zipped too; ``bytes_entropy_bound``; ``sparsity``;
    ``latency``, ``load`` and ``memory`` as `onnx_unipts.measurement.measure` returns them;
    ``runtimes``: who gains, a sentence each. ``data`` are inputs as for `compress`, of which
    ``batch_size`` are run at a time. Raises `UsageError` and `UnsupportedModelError`; ``sparse``
    may be a file in ORT format, whose zeros are not counted.
    """
    check_training_runtime()
    dense, sparse = model_file(dense), model_file(sparse)
    threads_of("threads", threads)
    check_kinds({"input_shapes": input_shapes})
    at_least(1, "batch_size", batch_size)
    at_least(MOST_BRIEF, "seconds", seconds)
    model = load_model(dense)
    feeds, samples = _feeds(model, dense, data, preprocessing, input_shapes or {}, batch_size)
    other = None if is_ort_format(sparse) else load_model(sparse)
    files = [describe_file(path, data_files(path)) for path in (dense, sparse)]
    if other is None:
        measured = measure(dense, sparse, feeds, threads, samples, seconds)
        return benchmark_document(*files, measured=measured)
    check_same_signature(model, other, sparse)
    counted, done = _zeros(model, other, files[0]["bytes"])
    measured = measure(dense, sparse, feeds, threads, samples, seconds)
    runtimes = gains(**done, ratio=measured["latency"]["ratio"])
    return benchmark_document(*files, measured=measured, runtimes=runtimes, **counted)


def _feeds(
    model: ir.Model,
    path: Path,
    data: Any,
    preprocessing: Preprocessing | str | None,
    input_shapes: dict[str, tuple[int, ...]],
    batch_size: int,
) -> tuple[dict[str, np.ndarray], int]:
    """Return what one run takes, and of how many samples it is."""
    batching = isolated(batching_of, model)
    signature: list[InputSpec] = list(input_signature(model, input_shapes, batching.whole))
    if is_synthetic(data):
        guess = load_calibration_data(data, signature, num_samples=1).batch(np.arange(1))
        signature = with_running_sizes(path, signature, guess)
    size = batching.size or batch_size
    loaded = load_calibration_data(data, signature, preprocessing, num_samples=size)
    names = {value.name for value in model.graph.inputs}
    batch = loaded.batch(np.arange(min(size, len(loaded))))
    batch = {name: array for name, array in batch.items() if name in names}
    return next(iter(batching.runs(batch))), batching.size or len(next(iter(batch.values())))


def _zeros(
    dense: ir.Model, sparse: ir.Model, dense_bytes: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the zeros of ``sparse`` for the document, and what was done to it for `gains`."""
    layers = zeros_against(dense, sparse)
    sizes = {weight.key: ir.DataType[weight.dtype].itemsize for weight in find_prunable(dense)}
    layers = [layer for layer in layers if layer.name in sizes]
    names = {layer.name for layer in layers}
    found = find_prunable(sparse, include=KINDS)
    stored = [w for w in found if w.pruned and dense_name(w.key, sizes) in names]
    quantized = any(w.dtype in INTEGERS and w.key not in sizes for w in stored)
    counts = {dense_name(weight.key, sizes): weight.count for weight in stored}
    cut = {layer.name for layer in layers if counts.get(layer.name, layer.count) < layer.count}
    bound = entropy_bound(dense_bytes, layers, sizes, 1 if quantized else None, counts)
    done = {"cut": bool(cut), "quantized": "int8" if quantized else None}
    return {"layers": layers, "bound": bound}, {"pattern": recognized(sparse), **done}
