"""Second moments of what enters layers, measured on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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

__all__ = [
    "have_room",
    "input_moments",
    "input_squares",
    "moments_bytes",
    "product_of",
    "run_session",
]

SAMPLES = 512
BATCH = 64
# Bytes that samples may take.
MEMORY = 1 << 28
# Bytes that the products of all inputs of a layer may take; there are several such matrices.
PRODUCTS_MEMORY = 1 << 30

Tensors = Mapping[str, np.ndarray]
Layers = Mapping[str, LinearLayer]
# Rows (groups, rows, K) -> what is summed of them.
SumsOf = Callable[[np.ndarray], np.ndarray]


def input_moments(
    student: Student,
    layers: Layers,
    tensors: Tensors,
    data: CalibrationData,
    cores: int = 1,
) -> dict[str, np.ndarray]:
    """Return mean(x x^T) of the rows x that enter each of ``layers``, float64 (groups, K, K).

    The student runs with ``tensors``, normalised by the statistics of each batch, in a process of
    its own; raises `UnsupportedModelError` where the runtime cannot. Layers that infinite values
    enter are left out.
    """
    return _means(_products, student, layers, tensors, data, cores)


def input_squares(
    student: Student,
    layers: Layers,
    tensors: Tensors,
    data: CalibrationData,
    cores: int = 1,
) -> dict[str, np.ndarray]:
    """Return the diagonals of `input_moments`, (groups, K), which take little memory."""
    return _means(_squares, student, layers, tensors, data, cores)


def moments_bytes(inputs: int, groups: int = 1) -> int:
    """Return how many bytes the moments of one layer of so many ``inputs`` take."""
    return 8 * groups * inputs**2


def have_room(size: int) -> bool:
    """Tell whether there is memory for moments of so many bytes."""
    return size <= PRODUCTS_MEMORY


def _means(sums_of: SumsOf, student: Student, layers: Layers, *rest: Any) -> dict[str, np.ndarray]:
    return isolated(_measured, sums_of, student, layers, *rest) if layers else {}


def _measured(
    sums_of: SumsOf,
    student: Student,
    layers: Layers,
    tensors: Tensors,
    data: CalibrationData,
    cores: int,
) -> dict[str, np.ndarray]:
    observed = list(dict.fromkeys(layer.data for layer in layers.values()))
    session = _observer(student, observed, cores)
    sums: dict[str, Any] = dict.fromkeys(layers, 0.0)
    counts = dict.fromkeys(layers, 0)
    rng = np.random.default_rng(0)
    for batch in _student_runs(student, data):
        seen = run_session(session, {**tensors, **batch})
        for name, layer in layers.items():
            rows = layer.rows(seen[layer.data], rng)
            sums[name] = sums[name] + sums_of(rows)
            counts[name] += rows.shape[1]
    means = {name: sums[name] / counts[name] for name in layers}
    return {name: mean for name, mean in means.items() if np.isfinite(mean).all()}


def _products(rows: np.ndarray) -> np.ndarray:
    return product_of(rows, rows)


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.square(rows, dtype=np.float64).sum(axis=1)


def product_of(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the sums of left right^T over rows, float64 (groups, K of left, K of right)."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.matmul(left.swapaxes(1, 2), right).astype(np.float64)
    if np.isfinite(product).all():
        return product
    return np.matmul(left.swapaxes(1, 2).astype(np.float64), right.astype(np.float64))


def _student_runs(student: Student, data: CalibrationData) -> Iterator[Tensors]:
    """Yield what single runs of the student are fed: fewer large samples, so that memory lasts."""
    most = max(min(SAMPLES, MEMORY // data.sample_bytes), 1)
    for batch in batches_of(data, student.divided(min(BATCH, most)), most):
        yield from student.batching.runs(batch)


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


def run_session(session: Any, values: Tensors) -> dict[str, np.ndarray]:
    """Return the outputs of ``session`` by name, fed what it takes of ``values``."""
    feeds = {value.name: values[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
