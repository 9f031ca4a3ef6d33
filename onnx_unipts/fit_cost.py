"""How long fitting all layers to their dense outputs takes, before it is done."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_unipts.graph.cost import multiplications
from onnx_unipts.job import Job
from onnx_unipts.reconstruction.layer_fit import ROWS_MEMORY
from onnx_unipts.reconstruction.linear_layer import POSITIONS
from onnx_unipts.reconstruction.moments import have_room, moments_bytes
from onnx_unipts.reconstruction.support import is_too_large
from onnx_unipts.reconstruction.views import fitting_samples, fitting_views
from onnx_unipts.reconstruction.walk import MEMORY as WALK_MEMORY

__all__ = [
    "fit_bytes",
    "fit_seconds",
    "mask_search_seconds",
    "sample_multiplications",
    "views_to_fit",
]

# The operators whose weights are fitted.
FITTED = ("Conv", "Gemm", "MatMul")
# What it takes to see what enters every layer in dense model and student, per sample and in runs of
# the dense model; MobileNetV2: 20, ResNet-20: 35.
WALKED = 25.0
# Seconds for each product of a weight with an input of its layer: 50 iterations under each of three
# priors and 50 more to end with; for the search of masks 60 iterations, and 50 more to compare.
# Measured together: 1.6e-8 on MobileNetV2, 1.8e-8 on ResNet-20.
SOLVED = 1e-8
CHOSEN = 7e-9
# Seconds for the cube of the inputs of a layer that scores classes: its products are solved for
# several priors, its masks by their eigenvectors, once more each. The example: 2e-9, for 1024.
SCORED = 2e-9
FLOAT_BYTES = 4
# Arrays as large as the rows of a layer that there are at once, at most.
ROWS_COPIES = 8


def fit_seconds(job: Job, once: float, views: int = 1) -> float:
    """Return about how long one fit under given masks takes, in seconds.

    To so many ``views`` of each sample; ``once`` is the seconds that the dense model takes for a
    sample on one core. More cores hardly help: one core is busy with MobileNetV2 for 106 s, and by
    the clock two took two minutes.
    """
    walked = WALKED * once * fitting_samples(job.data) * views
    solved = ((count, inputs) for count, inputs in _layers(job) if have_room(moments_bytes(inputs)))
    return walked + SOLVED * sum(count * inputs for count, inputs in solved) + _scored(job)


def fit_bytes(job: Job, values: int) -> int:
    """Return about how many bytes one fit takes: what lies between two layers, and rows of one.

    ``values`` is how many bytes the nodes of the model put out for a sample. What lies between
    layers is there twice, as it comes from a process of its own; rows are those of both models, and
    what comes of them.
    """
    samples = fitting_samples(job.data) * views_to_fit(job)
    widest = max((max(count // inputs, inputs) for count, inputs in _layers(job)), default=0)
    rows = min(samples * values, samples * POSITIONS * widest * FLOAT_BYTES, ROWS_MEMORY)
    return 2 * min(2 * samples * values, WALK_MEMORY) + ROWS_COPIES * rows


def mask_search_seconds(job: Job) -> float:
    """Return about how much longer one fit takes that searches masks, in seconds."""
    searched = (layer for layer in _layers(job) if not is_too_large(*layer))
    return CHOSEN * sum(count * inputs for count, inputs in searched) + _scored(job)


def views_to_fit(job: Job) -> int:
    """Return how many views of each sample layers are fitted to before training."""
    return fitting_views(job.data, sample_multiplications(job), job.recipe.training.augment)


def sample_multiplications(job: Job) -> int:
    """Return what the dense model takes for one sample, 0 where that is not known."""
    run = next(job.batching.runs(job.data.batch(np.arange(1))))
    shapes = {name: array.shape for name, array in run.items()}
    return multiplications(job.dense, shapes) // (job.batching.size or 1)


def _scored(job: Job) -> float:
    """Return what the last layer takes beside the others where it scores classes, in seconds."""
    last = job.pruned[-1]
    if last.operator not in ("Gemm", "MatMul") or last.out_axis is None:
        return 0.0
    if not any(target.kind == "classes" for target in job.targets):
        return 0.0
    inputs = last.count // last.shape[last.out_axis]
    return SCORED * inputs**3 if have_room(moments_bytes(inputs)) else 0.0


def _layers(job: Job) -> Iterator[tuple[int, int]]:
    """Yield the number of weights, and of inputs of each output, of the layers to fit."""
    for weight in job.pruned:
        if weight.operator in FITTED and weight.out_axis is not None:
            yield weight.count, weight.count // weight.shape[weight.out_axis]
