"""Building the student: cleaned, normalisations inserted, equal to the dense model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph import normalization
from onnx_unipts.graph.branches import with_branches_taken
from onnx_unipts.graph.cleanup import clean
from onnx_unipts.graph.cost import multiplications
from onnx_unipts.graph.dynamic_batch import Batching, batching_of, opened
from onnx_unipts.graph.model import (
    read_tensors,
    serialize,
)
from onnx_unipts.graph.normalization import Normalization
from onnx_unipts.graph.parameters import bind, companions
from onnx_unipts.graph.precision import in_single_precision
from onnx_unipts.recipe import Training
from onnx_unipts.student.batches import batches_of
from onnx_unipts.student.model import Student
from onnx_unipts.student.statistics import observe
from onnx_unipts.student.writing import convolution_of
from onnx_unipts.targets import choose_features, choose_targets, expose
from onnx_unipts.training.ort import inference_session

__all__ = ["build_student"]

# Samples whose statistics an inserted normalisation is measured on.
STATISTICS_SAMPLES = 1024
STATISTICS_BATCH = 128
# Samples that show which branch of an If is taken.
OBSERVED_SAMPLES = 8


def build_student(
    model: ir.Model,
    prunable: Sequence[str],
    data: CalibrationData,
    settings: Training,
    cores: int = 1,
    batching: Batching | None = None,
    restated: bool = False,
) -> Student:
    """Make the student of ``model``: cleaned, normalisations inserted, equal to the dense model.

    It computes in single precision, whatever ``model`` does, and takes any number of samples where
    ``batching`` (of ``model``) does not say otherwise. One that takes a fixed number keeps the
    running statistics of its normalisations, and none is inserted: those of so few samples are not
    those of the data.

    ``data`` measures the statistics of what enters the inserted normalisations. They are measured
    on augmented samples if training sees such: then the statistics of its batches are those that
    the normalisations expect, and the dense model teaches undistorted. With ``restated`` the same
    is done to the normalisations that the model has, so that it does not matter whether an exporter
    folded them.

    Raises `UnsupportedModelError` where ``model`` stores weights in a type that cannot be trained,
    or has no output that can be compared.
    """
    batching = batching or batching_of(model)
    parameters = [*prunable, *companions(model, prunable)]
    tensors = {n: t.astype(np.float32) for n, t in read_tensors(model, parameters).items()}
    working = _working_model(model, parameters, tensors, data, batching)
    targets = tuple(choose_targets(working, settings.losses))
    expose(working, targets)
    kept = normalization.find(working)
    unbiased = [name for name in prunable if convolution_of(model, name) is not None]
    free = batching.size is None
    inserted = normalization.insert(working, prunable, unbiased) if free else []
    known = kept if restated and free else []
    student = Student(working, {}, (), (), (), targets, batching=batching, shapes=_shapes(data))
    one_run = student.run_shapes(batching.size or 1)
    student.multiplications = multiplications(working, one_run) // (batching.size or 1)
    tensors |= _as_identity(student, inserted, known, tensors, data, settings, cores)
    tensors |= normalization.rescale(working, known, prunable, tensors, settings.filter_scale)
    inputs = {value.name for value in working.graph.inputs}
    tensors = {name: value for name, value in tensors.items() if name in inputs}
    statistics = {name for norm in (*kept, *inserted) for name in norm.statistics}
    absorbed = {norm.conv_bias for norm in inserted}
    student.tensors = tensors
    student.dense = dict(tensors)
    student.prunable = tuple(name for name in prunable if name in tensors)
    student.trained = tuple(name for name in tensors if name not in statistics | absorbed)
    student.normalizations = (*kept, *inserted) if free else ()
    if settings.features:
        student.features = tuple(choose_features(working, prunable, settings.features))
    return student


def _working_model(
    model: ir.Model,
    parameters: Sequence[str],
    tensors: Mapping[str, np.ndarray],
    data: CalibrationData,
    batching: Batching,
) -> ir.Model:
    """Return ``model`` cleaned, with ``parameters`` as inputs and the branches that are taken."""
    single = in_single_precision(model, parameters)
    working = clean(opened(single) if batching.size is None else single, parameters)
    observed = partial(_observed_values, tensors=tensors, data=data, batching=batching)
    taken = with_branches_taken(working, observed)
    return working if taken is working else clean(taken, [])


def _observed_values(
    model: ir.Model,
    names: Sequence[str],
    tensors: Mapping[str, np.ndarray],
    data: CalibrationData,
    batching: Batching,
) -> dict[str, np.ndarray]:
    """Return the values called ``names`` in one vector each, over a few samples."""
    bound = bind(model, tensors)
    known = {value.name: value for value in bound.graph.inputs}
    known |= {value.name: value for node in bound.graph for value in node.outputs}
    bound.graph.outputs.clear()
    bound.graph.outputs.extend(known[name] for name in names)
    session = inference_session(serialize(bound))
    runs = batching.runs(data.batch(np.arange(min(len(data), OBSERVED_SAMPLES))))
    found = [[np.ravel(value) for value in session.run(names, run)] for run in runs]
    return dict(zip(names, map(np.concatenate, zip(*found, strict=True)), strict=True))


def _shapes(data: CalibrationData) -> dict[str, tuple[int, ...]]:
    return {name: value.shape[1:] for name, value in data.batch(np.arange(1)).items()}


def _as_identity(
    student: Student,
    inserted: Sequence[Normalization],
    kept: Sequence[Normalization],
    tensors: Mapping[str, np.ndarray],
    data: CalibrationData,
    settings: Training,
    cores: int,
) -> dict[str, np.ndarray]:
    """Return tensors with which the normalisations change nothing, at statistics of ``data``."""
    measured = [*inserted, *kept]
    if not measured:
        return {}
    plain = {
        name: np.full(norm.channels, value, np.float32)
        for norm in inserted
        for name, value in zip(
            (*norm.trained, *norm.statistics), (np.sqrt(1 + norm.epsilon), 0, 0, 1), strict=True
        )
    }
    measuring = serialize(normalization.with_observed_statistics(student.model, measured))
    augment = settings.augment and settings.epochs > 0
    count = student.affordable(STATISTICS_SAMPLES)
    batches = list(batches_of(data, student.divided(STATISTICS_BATCH), count, augment))
    observed = observe(measuring, {**tensors, **plain}, batches, cores)
    sizes = [len(next(iter(batch.values()))) for batch in batches]
    statistics = normalization.statistics_mean(observed, sizes, measured)
    restated = normalization.restate(kept, tensors, statistics)
    return restated | normalization.identity(inserted, tensors, statistics, settings.filter_scale)
