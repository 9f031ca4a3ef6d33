"""How long a run will take, and how much memory: estimated before it starts, by ``--dry-run``."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import numpy as np
from onnx_ir.passes import common

from onnx_unipts.allocation import SEARCHES, Problem
from onnx_unipts.evaluation import run_samples
from onnx_unipts.job import Job
from onnx_unipts.layer_scoring import HELD_OUT, SCORED_SAMPLES
from onnx_unipts.targets import choose_targets
from onnx_unipts.training.ort import file_session

__all__ = ["estimate"]

TRIED_SAMPLES = 16
TRIALS = 3
# A model that takes this long for a sample is run no more than once.
SLOW_SECONDS = 0.5
# What a sample costs in runs of the dense model, on one core, and what comes to it per step and per
# run. Fitted to the example (6 s) and to ResNet-20 (3 min), so that both are met within a half.
SEARCHED = 3.0
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
FLOAT_BYTES = 4


def estimate(job: Job) -> dict[str, Any]:
    """Return about how many seconds and bytes the run of ``job`` will take, on an idle machine.

    ``search_seconds``, ``training_seconds`` (with the adaptation of the teacher), ``total_seconds``
    and ``memory_bytes``, the largest resident size of the process. The dense model is run a few
    times for it.
    """
    once = _seconds_per_sample(job)
    search = SEARCHED * once * _searched_samples(job) / job.cores
    settings = job.recipe.training
    steps = settings.steps(len(job.data))
    samples = (TRAINED * steps + ADAPTED * job.adaptation) * settings.batch_size
    training = once * samples / job.replicas + STEP_SECONDS * (steps + job.adaptation)
    measured = MEASURED * once * len(job.eval_data or job.data) / job.cores
    return {
        "search_seconds": search,
        "training_seconds": training,
        "total_seconds": START_SECONDS + search + training + measured,
        "memory_bytes": _memory(job),
    }


def _seconds_per_sample(job: Job) -> float:
    """Return the time that one core takes for one sample, whatever else the machine does."""
    session = file_session(job.path, 1)
    names = [target.output for target in choose_targets(job.dense)]

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


def _searched_samples(job: Job) -> int:
    """Return how many samples all candidates are scored on.

    A layer that is pruned and fitted costs, beside the samples that score it, as much once more.
    """
    method = job.allocator()
    if method not in SEARCHES:
        return 0
    scoring = SEARCHES[method]
    candidates = scoring.candidates(_outline(job))
    if scoring.layer_by_layer:
        return 2 * candidates * min(SCORED_SAMPLES, len(job.data) // HELD_OUT)
    return candidates * min(job.recipe.allocation.search.samples, len(job.data))


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


def _memory(job: Job) -> int:
    weights = sum(weight.count for weight in job.weights) * FLOAT_BYTES
    size = job.recipe.training.batch_size if job.recipe.training.epochs else 1
    values = _values_per_sample(job) * FLOAT_BYTES * size
    return round(_resident() + WEIGHT_COPIES * weights + ACTIVATION_COPIES * values)


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
