"""The student: the user's graph with its weights as inputs and its normalisations back in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph import normalization
from onnx_unipts.graph.branches import with_branches_taken
from onnx_unipts.graph.cleanup import clean
from onnx_unipts.graph.cost import multiplications
from onnx_unipts.graph.dynamic_batch import Batching, batching_of, opened
from onnx_unipts.graph.model import (
    from_proto,
    read_tensors,
    serialize,
    stored_tensors,
    to_proto,
    write_tensors,
)
from onnx_unipts.graph.normalization import Normalization
from onnx_unipts.graph.parameters import bind, companions
from onnx_unipts.graph.precision import in_single_precision
from onnx_unipts.patterns import Masking
from onnx_unipts.recipe import Training
from onnx_unipts.targets import Target, choose_features, choose_targets, expose
from onnx_unipts.training.ort import inference_session

__all__ = ["Student", "batches_of", "build_student", "recalibrate", "write_back"]

# Samples whose statistics an inserted normalisation is measured on.
STATISTICS_SAMPLES = 1024
STATISTICS_BATCH = 128
# Samples that show which branch of an If is taken.
OBSERVED_SAMPLES = 8
# What a pass that only measures may take: about half a minute on one core.
PASS_MULTIPLICATIONS = 300_000_000_000
# What a run may take: the activations of a batch grow with it, and have to fit into memory.
BATCH_MULTIPLICATIONS = 150_000_000_000


@dataclass
class Student:
    """A working model whose parameters are inputs, with their values.

    ``model`` outputs the distilled values of ``targets``. ``tensors`` are its parameters by name,
    float32; ``prunable`` names those that masks apply to, made by ``masking``; ``trained`` those
    that gradients train. ``batching`` says how it is fed, ``shapes`` the shape of one sample of
    each input, and ``multiplications`` what a forward pass of one sample takes.
    """

    model: ir.Model
    tensors: dict[str, np.ndarray]
    prunable: tuple[str, ...]
    trained: tuple[str, ...]
    normalizations: tuple[Normalization, ...]
    targets: tuple[Target, ...]
    features: tuple[Target, ...] = ()
    dense: dict[str, np.ndarray] = field(default_factory=dict)
    masking: Masking = field(default_factory=Masking)
    batching: Batching = field(default_factory=Batching)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    multiplications: int = 0

    def with_batch_statistics(self) -> bytes:
        """Return the model, serialised, that normalises by the statistics of each batch."""
        return serialize(normalization.with_batch_statistics(self.model, self.normalizations))

    def teacher(self, statistics: str) -> bytes:
        """Return the dense model, serialised, with ``batch`` or ``running`` statistics."""
        model = self.model
        if statistics == "batch":
            model = normalization.with_batch_statistics(model, self.normalizations)
        model = bind(model, self.dense)
        expose(model, self.taught)
        return serialize(model)

    @property
    def taught(self) -> tuple[Target, ...]:
        """What the dense model teaches: the targets, and the features beside them."""
        return (*self.targets, *self.features)

    def run_shapes(self, samples: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input where one run takes so many ``samples``."""
        whole = self.batching.whole
        return {
            name: shape if name in whole else (samples, *shape)
            for name, shape in self.shapes.items()
        }

    def affordable(self, samples: int) -> int:
        """Return how many of the ``samples`` one pass over the data looks at.

        All of them but for large models: a few seconds' worth, and two at least.
        """
        most = PASS_MULTIPLICATIONS // max(self.multiplications, 1)
        return min(samples, max(most, 2))

    def divided(self, samples: int) -> int:
        """Return the largest divisor of ``samples`` that a run of a large model has memory for."""
        most = max(BATCH_MULTIPLICATIONS // max(self.multiplications, 1), 1)
        return max(k for k in range(1, min(samples, most) + 1) if samples % k == 0)

    def __getstate__(self) -> dict[str, Any]:
        """Hold the model as bytes, for another process."""
        return {**self.__dict__, "model": to_proto(self.model).SerializeToString()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self.model = from_proto(onnx.ModelProto.FromString(state["model"]))
        for value in self.model.graph.inputs:
            if (tensor := self.dense.get(str(value.name))) is not None:
                value.const_value = ir.tensor(tensor, name=value.name)

    def taught_at(self, share: float) -> tuple[Target, ...]:
        """What the dense model teaches, with ``share`` of the weight of the features."""
        faded = (replace(feature, weight=feature.weight * share) for feature in self.features)
        return (*self.targets, *faded)

    def with_tensors(self, tensors: Mapping[str, np.ndarray]) -> bytes:
        """Return the model, serialised, with ``tensors`` as constants and running statistics."""
        return serialize(bind(self.model, tensors))

    @property
    def values(self) -> list[str]:
        """The names of the values that the dense model teaches, each once."""
        return list(dict.fromkeys(target.value for target in self.taught))


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
    single = in_single_precision(model, parameters)
    working = clean(opened(single) if batching.size is None else single, parameters)
    observe = partial(_observed_values, tensors=tensors, data=data, batching=batching)
    taken = with_branches_taken(working, observe)
    working = working if taken is working else clean(taken, [])
    targets = tuple(choose_targets(working, settings.losses))
    expose(working, targets)
    kept = normalization.find(working)
    unbiased = [name for name in prunable if _convolution(model, name) is not None]
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


def recalibrate(
    student: Student,
    tensors: Mapping[str, np.ndarray],
    data: CalibrationData,
    batch_size: int,
    limit: int | None = None,
    cores: int = 1,
    augment: bool = False,
) -> dict[str, np.ndarray]:
    """Return mean and variance of every normalisation of the student with ``tensors``.

    Each is the average over batches that are themselves normalised by their own statistics, of up
    to ``limit`` samples. A student trained on augmented samples needs the statistics of such:
    measured on ResNet-20, those of plain images cost it three points of accuracy.
    """
    if not student.normalizations:
        return {}
    limit = student.affordable(len(data) if limit is None else limit)
    batches = batches_of(data, batch_size, limit, augment)
    observed = _observe(student.with_batch_statistics(), tensors, batches, cores)
    values: dict[str, list[np.ndarray]] = {}
    for norm in student.normalizations:  # some may share their tensors
        for name, measured in zip(norm.statistics, norm.observed, strict=True):
            values.setdefault(name, []).extend(batch[measured] for batch in observed)
    stacks = {name: np.stack(each) for name, each in values.items()}
    return {n: v.mean(axis=0, dtype=np.float64).astype(np.float32) for n, v in stacks.items()}


def write_back(
    student: Student, model: ir.Model, tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Write ``tensors`` into the user's ``model``, inserted normalisations folded; in place.

    A convolution without bias gets one where the fold needs it. What is not zero stays so in the
    type that the model stores. Returns what was written, by name.
    """
    written = dict(tensors)
    for norm in student.normalizations:
        if norm.weight is None:
            continue
        filters, bias = normalization.fold(norm, tensors)
        written[norm.weight] = filters
        name = norm.conv_bias or _add_bias(model, norm.weight, bias)
        written[name] = bias
        for own in (*norm.trained, *norm.statistics):
            del written[own]
    stored = stored_tensors(model)
    written = {n: _as_stored(t, stored[n].tensor.dtype.numpy()) for n, t in written.items()}
    write_tensors(model, written)
    return written


def batches_of(
    data: CalibrationData, batch_size: int, limit: int | None = None, augment: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """Yield up to ``limit`` samples in batches of one shuffled order, always the same.

    Shuffled, because data often comes sorted by class, and the statistics of a batch of one class
    are not those of the data. A last incomplete batch is left out unless it is the only one.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data))[:limit]
    size = min(batch_size, len(order))
    for start in range(0, len(order) - size + 1, size):
        indices = order[start : start + size]
        yield data.augmented(indices, rng) if augment else data.batch(indices)


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
    observed = _observe(measuring, {**tensors, **plain}, batches, cores)
    sizes = [len(next(iter(batch.values()))) for batch in batches]
    statistics = normalization.statistics_mean(observed, sizes, measured)
    restated = normalization.restate(kept, tensors, statistics)
    return restated | normalization.identity(inserted, tensors, statistics, settings.filter_scale)


def _observe(
    model: bytes,
    tensors: Mapping[str, np.ndarray],
    batches: Iterable[Mapping[str, np.ndarray]],
    cores: int,
) -> list[dict[str, np.ndarray]]:
    """Return the observed statistics of each batch, one batch per core at a time."""
    session = inference_session(model)
    inputs = {value.name for value in session.get_inputs()}
    names = [v.name for v in session.get_outputs() if v.name.endswith("/observed")]
    parameters = {name: value for name, value in tensors.items() if name in inputs}

    def run(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {**parameters, **batch}), strict=True))

    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(run, batches))


def _convolution(model: ir.Model, weight: str) -> ir.Node | None:
    """Return the one Conv in the main graph of the user's model whose filter is ``weight``."""
    values = [stored_tensors(model)[weight].value]
    found = []
    for value in values:
        for node, index in value.uses():
            if node.op_type == "Identity":
                values += node.outputs
            elif node.op_type == "Conv" and index == 1:
                found.append(node)
    return found[0] if len(found) == 1 and found[0].graph is model.graph else None


def _add_bias(model: ir.Model, weight: str, bias: np.ndarray) -> str:
    node = _convolution(model, weight)
    assert node is not None
    taken = {value.name for graph in model.graphs() for n in graph for value in n.outputs}
    taken |= {value.name for value in model.graph.inputs}
    taken |= {name for graph in model.graphs() for name in graph.initializers}
    name = f"{weight}/bias"
    while name in taken:
        name += "_"
    dtype = stored_tensors(model)[weight].tensor.dtype
    value = ir.Value(name=name, const_value=ir.tensor(bias.astype(dtype.numpy()), name=name))
    model.graph.register_initializer(value)
    node.resize_inputs(3)
    node.replace_input_with(2, value)
    return name


def _as_stored(tensor: np.ndarray, dtype: np.dtype) -> np.ndarray:
    stored = tensor.astype(dtype)
    lost = (stored == 0) & (tensor != 0)
    if lost.any():
        range_of = dtype if dtype.kind == "f" else np.float32  # bfloat16 has that of float32
        stored[lost] = np.copysign(np.finfo(range_of).tiny, tensor[lost]).astype(dtype)
    return stored
