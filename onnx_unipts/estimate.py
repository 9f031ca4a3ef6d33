"""How long a run will take, and how much memory: estimated before it starts, by ``--dry-run``."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import numpy as np
from onnx_ir.passes import common

from onnx_unipts.allocation import SEARCHES, Problem
from onnx_unipts.course import POINTS
from onnx_unipts.course import SAMPLES as COURSE_SAMPLES
from onnx_unipts.evaluation import run_samples
from onnx_unipts.fit_cost import (
    fit_bytes,
    fit_seconds,
    mask_search_seconds,
    sample_multiplications,
    views_to_fit,
)
from onnx_unipts.job import Job
from onnx_unipts.layer_scoring import scored_samples
from onnx_unipts.recover import QUICK_SAMPLES
from onnx_unipts.rehearsal import SEEN, is_rehearsed, ways_of
from onnx_unipts.rotating import rotation_seconds
from onnx_unipts.student.building import STATISTICS_BATCH, STATISTICS_SAMPLES
from onnx_unipts.student.model import BATCH_MULTIPLICATIONS
from onnx_unipts.training.ort import file_session

__all__ = ["estimate"]

TRIED_SAMPLES = 16
TRIALS = 3
# A model that takes this long for a sample is run no more than once.
SLOW_SECONDS = 0.5
# What a sample costs in runs of the dense model, on one core, and what comes to it per step and per
# run. Fitted to the example (6 s) and to ResNet-20 (3 min), so that both are met within a half.
SEARCHED = 3.0
# Less where a single layer is scored: normalisations are folded then. MobileNetV2: five minutes.
LAYER_SEARCHED = 2.0
ADAPTED = 8.0
TRAINED = 10.0
STEP_SECONDS = 0.008
START_SECONDS = 2.0
# The models that the report compares, and the look at them before and after.
MEASURED = 5.0
# Copies of the weights: dense, adapted, trained, fed, gradients, velocity, those of the sessions.
WEIGHT_COPIES = 10
# Activations are kept for the gradient, their gradients beside them for a while.
ACTIVATION_COPIES = 2.0
# Of the values of a batch, the share that is there at once while statistics are measured:
# ResNet-20 0.2, MobileNetV2 0.3, more where there are few layers.
OBSERVED = 0.4
FLOAT_BYTES = 4


def estimate(job: Job, searching: bool = False) -> dict[str, Any]:
    """Return about how many seconds and bytes the run of ``job`` will take, on an idle machine.

    ``rehearsal_seconds``, ``search_seconds``, ``training_seconds`` (with the adaptation of the
    teacher, and with ``reconstruction_seconds``: those in which layers are fitted first),
    ``total_seconds`` and ``memory_bytes``, the largest resident size of the process. After a
    rehearsal those of the way that takes longer. Where ``searching`` is all, the teacher adapts in
    ``search_seconds`` and nothing is trained or measured. The dense model is run a few times for
    it.
    """
    once = _seconds_per_sample(job)
    if searching or not is_rehearsed(job):
        return _of_one_way(job, once, searching)
    ways = [_of_one_way(way, once, searching) for way in ways_of(job)]
    longer = max(ways, key=lambda way: way["total_seconds"])
    rehearsal = SEEN * sum(way["search_seconds"] + way["training_seconds"] for way in ways)
    return {
        **longer,
        "rehearsal_seconds": rehearsal,
        "total_seconds": rehearsal + longer["total_seconds"],
        "memory_bytes": max(way["memory_bytes"] for way in ways),
    }


def _of_one_way(job: Job, once: float, searching: bool) -> dict[str, Any]:
    """Return the estimate without a rehearsal; ``once`` is the seconds of a sample on one core."""
    search, adaptation = _search_seconds(job, once, searching), _adaptation_seconds(job, once)
    if searching:
        search += adaptation
        reconstruction = training = measured = 0.0
    else:
        reconstruction = _reconstruction_seconds(job, once)
        training = reconstruction + adaptation + _training_seconds(job, once)
        measured = MEASURED * once * len(job.eval_data or job.data) / job.cores
    return {
        "rehearsal_seconds": 0.0,
        "search_seconds": search,
        "reconstruction_seconds": reconstruction,
        "training_seconds": training,
        "total_seconds": START_SECONDS + rotation_seconds(job) + search + training + measured,
        "memory_bytes": _memory(job, searching),
    }


def _seconds_per_sample(job: Job) -> float:
    """Return the time that one core takes for one sample, whatever else the machine does."""
    session = file_session(job.path, 1)
    names = [target.output for target in job.targets]

    def seconds(count: int) -> float:
        batch = job.data.batch(np.arange(count))
        began = time.thread_time()
        run_samples(session, names, batch)
        return (time.thread_time() - began) / count

    first = seconds(1)
    if first > SLOW_SECONDS:
        return first
    count = min(TRIED_SAMPLES, len(job.data))
    seconds(count)  # allocates
    return min(seconds(count) for _ in range(TRIALS))


def _search_seconds(job: Job, once: float, searching: bool) -> float:
    """Return what it takes to score all candidates; single layers are fitted before."""
    method = job.allocator(searching)
    if method not in SEARCHES:
        return 0.0
    scoring = SEARCHES[method]
    candidates = scoring.candidates(_outline(job))
    if not scoring.layer_by_layer:
        samples = min(job.recipe.allocation.search.samples, len(job.data))
        return SEARCHED * once * candidates * samples / job.cores
    held_out = scored_samples(len(job.data), len(job.pruned), sample_multiplications(job))
    samples = held_out or len(job.data)
    scored = LAYER_SEARCHED * once * candidates * samples / job.cores
    return scored + fit_seconds(job, once)


def _outline(job: Job) -> Problem:
    """Return the allocation problem without what takes long: stand-ins for weights, no scores."""
    settings = job.recipe.allocation
    weights = {w.key: np.broadcast_to(np.float32(1), w.shape) for w in job.pruned}
    return Problem(
        weights,
        job.sparsity,
        search=settings.search,
        masking=job.masking,
        minimum=settings.minimum,
        levels=settings.levels,
    )


def _reconstruction_seconds(job: Job, once: float) -> float:
    """Return what it takes to fit layers before training.

    Real samples: three of four, as they are, then all with parts of them; only the latter where no
    training follows. Made-up ones: three of four with parts of them.
    """
    settings = job.recipe.training
    if not settings.reconstruction:
        return 0.0
    fits = [views_to_fit(job)] if job.synthetic or settings.epochs == 0 else [1, views_to_fit(job)]
    searched = mask_search_seconds(job) if job.searches_masks else 0.0
    return sum(fit_seconds(job, once, views) + searched for views in fits)


def _training_seconds(job: Job, once: float) -> float:
    """Return what all steps take, and the looks at the model between epochs."""
    settings, steps = job.recipe.training, job.recipe.training.steps(len(job.data))
    if settings.epochs == 0:
        return 0.0
    compared = min(COURSE_SAMPLES, len(job.eval_data or job.data))
    look = SEARCHED * min(QUICK_SAMPLES, len(job.data)) + compared
    looks = min(settings.epochs, POINTS) + 1
    return _steps_seconds(job, once, steps, TRAINED) + once * looks * look / job.cores


def _adaptation_seconds(job: Job, once: float) -> float:
    """Return what it takes until the teacher has adapted."""
    return _steps_seconds(job, once, job.adaptation, ADAPTED)


def _steps_seconds(job: Job, once: float, steps: int, cost: float) -> float:
    """Return what so many ``steps`` take, where a sample costs ``cost`` runs."""
    samples = steps * job.recipe.training.batch_size
    return cost * once * samples / job.replicas + STEP_SECONDS * steps


def _memory(job: Job, searching: bool) -> int:
    weights = sum(weight.count for weight in job.weights) * FLOAT_BYTES
    steps = job.adaptation if searching else job.recipe.training.epochs
    size = job.recipe.training.batch_size if steps else 1
    values = _values_per_sample(job) * FLOAT_BYTES
    trained = ACTIVATION_COPIES * values * size
    fits = job.recipe.training.reconstruction and not searching
    fitted = fit_bytes(job, values) if fits else 0
    built = _built_bytes(job, values)
    return round(_resident() + WEIGHT_COPIES * weights + max(trained, fitted, built))


def _built_bytes(job: Job, values: int) -> float:
    """Return what it takes to measure the statistics of inserted normalisations.

    ``values`` is how many bytes the nodes of the model put out for a sample; a batch for each core
    runs at once.
    """
    if job.batching.size is not None:
        return 0.0
    most = max(BATCH_MULTIPLICATIONS // max(sample_multiplications(job), 1), 1)
    size = min(STATISTICS_BATCH, len(job.data), most)
    batches = max(min(STATISTICS_SAMPLES, len(job.data)) // size, 1)
    return OBSERVED * values * size * min(job.cores, batches)


def _values_per_sample(job: Job) -> int:
    """Return how many numbers the nodes of the model put out for a sample, as far as is known.

    A dynamic axis counts as one: mostly it is that of the batch.
    """
    model = job.dense.clone()
    common.ShapeInferencePass(strict_mode=False)(model)
    shapes = (value.shape for node in model.graph for value in node.outputs)
    return sum(
        math.prod(axis if isinstance(axis, int) else 1 for axis in shape)
        for shape in shapes
        if shape is not None
    )


def _resident() -> int:
    """Return the bytes that this process holds, 0 where that is not known."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/status", encoding="ascii") as status:
        words = (line.split() for line in status)
        return next((int(w[1]) * 1024 for w in words if w[0] == "VmRSS:"), 0)
