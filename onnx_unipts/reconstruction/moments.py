"""Second moments of what enters layers, measured on calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph import normalization
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.graph.model import serialize
from onnx_unipts.reconstruction.linear_layer import LinearLayer
from onnx_unipts.student import Student, batches_of
from onnx_unipts.training.ort import inference_session

__all__ = ["input_moments", "paired_moments", "student_runs"]

SAMPLES = 1024
BATCH = 64
# Bytes that samples may take.
MEMORY = 1 << 28
# A layer is measured on no more rows than this many times its inputs: deep models are slow to run.
ROWS_PER_INPUT = 12

Tensors = Mapping[str, np.ndarray]


def student_runs(
    student: Student, data: CalibrationData, samples: int = SAMPLES
) -> Iterator[Tensors]:
    """Yield what single runs of the student are fed, up to ``samples`` in all.

    Fewer of large samples, so that all of them fit into the memory.
    """
    size = sum(array.nbytes for array in data.batch(np.arange(1)).values())
    most = max(min(samples, MEMORY // size), 1)
    for batch in batches_of(data, student.divided(min(BATCH, most)), most):
        yield from student.batching.runs(batch)


def input_moments(
    student: Student,
    layers: Mapping[str, LinearLayer],
    tensors: Tensors,
    data: CalibrationData,
    cores: int = 1,
) -> dict[str, np.ndarray]:
    """Return mean(x x^T) of the rows x that enter each of ``layers``, float64 (groups, K, K).

    The student runs with ``tensors``, normalised by the statistics of each batch, in a process of
    its own; raises `UnsupportedModelError` where the runtime cannot.
    """
    return isolated(_input_moments, student, layers, tensors, data, cores) if layers else {}


def _input_moments(
    student: Student,
    layers: Mapping[str, LinearLayer],
    tensors: Tensors,
    data: CalibrationData,
    cores: int,
) -> dict[str, np.ndarray]:
    observed = list(dict.fromkeys(layer.data for layer in layers.values()))
    session = _observer(student, observed, cores)
    sums: dict[str, Any] = dict.fromkeys(layers, 0.0)
    counts = dict.fromkeys(layers, 0)
    rng = np.random.default_rng(0)
    for batch in student_runs(student, data, SAMPLES // 2):
        seen = _run(session, tensors, batch)
        for name, layer in layers.items():
            rows = layer.rows(seen[layer.data], rng)
            sums[name] = sums[name] + _product(rows, rows)
            counts[name] += rows.shape[1]
    return {name: sums[name] / counts[name] for name in layers}


def paired_moments(
    student: Student,
    layer: LinearLayer,
    tensors: Tensors,
    runs: Iterable[Tensors],
    cores: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean(y y^T) and mean(x y^T), both float64 (groups, K, K), of what enters ``layer``.

    x are the rows of the dense model, y those of the student with ``tensors``; ``runs`` is what
    both are fed, as `student_runs` gives it. In a process of its own; raises
    `UnsupportedModelError` where the runtime cannot.
    """
    return isolated(_paired_moments, student, layer, tensors, runs, cores)


def _paired_moments(
    student: Student, layer: LinearLayer, tensors: Tensors, runs: Iterable[Tensors], cores: int
) -> tuple[np.ndarray, np.ndarray]:
    session = _observer(student, [layer.data], cores)
    own: Any = 0.0
    cross: Any = 0.0
    count = 0
    rng = np.random.default_rng(0)
    for batch in runs:
        place = rng.integers(2**32)
        dense, sparse = (
            layer.rows(_run(session, t, batch)[layer.data], np.random.default_rng(place))
            for t in (student.dense, tensors)
        )
        own, cross = own + _product(sparse, sparse), cross + _product(dense, sparse)
        count += sparse.shape[1]
        if count >= ROWS_PER_INPUT * sparse.shape[2]:
            break
    return own / count, cross / count


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.matmul(left.swapaxes(1, 2), right).astype(np.float64)


def _observer(student: Student, names: list[str], cores: int) -> Any:
    """Return a session of that part of the student that makes the values called ``names``."""
    model = normalization.with_batch_statistics(student.model, student.normalizations)
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    values |= {value.name: value for value in graph.inputs}
    graph.outputs.clear()
    graph.outputs.extend(values[name] for name in names)
    RemoveUnusedNodesPass()(model)
    return inference_session(serialize(model), cores)


def _run(session: Any, tensors: Tensors, batch: Tensors) -> dict[str, np.ndarray]:
    known = {value.name for value in session.get_inputs()}
    feeds = {name: value for name, value in {**tensors, **batch}.items() if name in known}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
