"""Preparing a job: model, data and recipe are read and checked before anything long."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnx_unipts.allocation import (
    ALLOCATORS,
    SEARCHES,
    Problem,
    analytic_allocator,
    whole_model_allocators,
)
from onnx_unipts.allocation.automatic import AUTO
from onnx_unipts.allocation.file import check_method
from onnx_unipts.allocation.prescribed import allocate_rest, check_prescribed
from onnx_unipts.calibration import (
    CalibrationData,
    Preprocessing,
    input_signature,
    is_synthetic,
    load_calibration_data,
    require_batch,
)
from onnx_unipts.chosen_weights import chosen_weights
from onnx_unipts.criteria import CRITERIA
from onnx_unipts.fitness import BACKENDS, FITNESS
from onnx_unipts.fitness.accuracy import ACCURACY, require_labels
from onnx_unipts.graph.dynamic_batch import batching_of
from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.graph.model import fits_one_file, load_model, read_tensors
from onnx_unipts.job import Job
from onnx_unipts.patterns import Pattern, parse_pattern, target_sparsity
from onnx_unipts.probing import require_running, with_running_sizes
from onnx_unipts.progress import Progress
from onnx_unipts.recipe import Recipe
from onnx_unipts.remarks import present
from onnx_unipts.targets import Target
from onnx_unipts.training.objective import OBJECTIVES
from onnx_unipts.training.recovery import RECOVERIES
from onnx_unipts.ways import chosen_way

__all__ = ["prepare_job"]

# Steps per epoch where the samples do not fill one batch.
STEPS_OF_FEW = 4
# Fewer than these say nothing about what a model will meet.
FEWEST_SAMPLES = 8


def prepare_job(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    recipe: Recipe,
    *,
    data: Any,
    eval_data: Any,
    preprocessing: Preprocessing | str | None,
    input_shapes: Mapping[str, tuple[int, ...]],
    cores: int,
    backend: str,
    command: str,
    progress: Progress,
) -> Job:
    """Read and check everything that a compression needs.

    Raises `UsageError` for the recipe, the data or the output, `UnsupportedModelError` for the
    model.
    """
    sparsity = target_sparsity(parse_pattern(recipe.pattern), recipe.sparsity)
    _check_plugins(recipe, backend)
    wanted = recipe.training.batch_size
    if preprocessing is not None:
        preprocessing = Preprocessing.of(preprocessing)
        recipe = recipe.model_copy(update={"preprocessing": recipe.preprocessing.of(preprocessing)})
    options = preprocessing or recipe.preprocessing.options()
    path = Path(model)
    dense = load_model(path)
    weights, last_resort = chosen_weights(dense, path, recipe)
    batching = isolated(batching_of, dense)
    signature = input_signature(dense, input_shapes, batching.whole)
    load = partial(load_calibration_data, data, options=options, seed=recipe.seed)
    if is_synthetic(data):
        guess = load(signature, num_samples=1).batch(np.arange(1))
        signature = with_running_sizes(path, signature, guess)
    loaded = load(signature, num_samples=recipe.num_samples)
    fed = batching if batching.size is not None else None
    require_running(path, fed, loaded.batch(np.arange(1)))
    held_out = None
    if eval_data is not None:
        held_out = load_calibration_data(eval_data, signature, options, seed=recipe.seed)
    recipe = _with_batches(recipe, loaded)
    job = Job(
        path,
        Path(output),
        recipe,
        sparsity,
        dense,
        weights,
        loaded,
        held_out,
        command,
        cores,
        backend,
        progress,
        synthetic=is_synthetic(data),
        batching=batching,
    )
    _check_prescribed(job)
    job.recipe = chosen_way(job, unfilled=recipe.training.batch_size != wanted)
    targets = _targets(job)
    _check_fitness(job, targets)
    _check_channels(job)
    present(job, targets, last_resort, wanted)
    return job


def _targets(job: Job) -> list[Target]:
    """Return what is compared, nothing where nothing can be. Raises `UsageError` for a loss."""
    try:
        return job.targets
    except UnsupportedModelError:
        return []


def _check_prescribed(job: Job) -> None:
    counts = {weight.key: weight.count for weight in job.pruned}
    method = job.recipe.allocation.method
    check_prescribed(method, job.pattern, counts, job.sparsity, job.prescribed)
    recovery = job.recipe.training.recovery
    if job.allocation_file is not None and RECOVERIES[recovery].allocates:
        raise UsageError(
            f"recovery {recovery} gives every layer its sparsity; leave out the allocation {method}"
        )
    if job.prescribed and RECOVERIES[recovery].allocates:
        raise UsageError(
            f"recovery {recovery} gives every layer its sparsity; leave out --layer-sparsity"
        )
    if job.allocation_file is not None:
        _check_allocation(job)


def _check_allocation(job: Job) -> None:
    """Refuse an allocation in a file that is not for these layers and this sparsity."""
    stored = read_tensors(job.dense, job.keys)
    weights = {w.key: stored[w.key] != w.zero for w in job.pruned}
    problem = Problem(weights, job.sparsity, masking=job.masking)
    allocate_rest(job.recipe.allocation.method, problem, job.prescribed)


def _check_fitness(job: Job, targets: Sequence[Target]) -> None:
    """Refuse to count right answers where nothing says which are."""
    method = job.allocator()
    scored = method in SEARCHES and not SEARCHES[method].layer_by_layer
    if targets and scored and job.recipe.allocation.search.fitness == ACCURACY:
        require_labels(targets, job.data.labels)


def _check_channels(job: Job) -> None:
    """Refuse to cut channels out of a model that cannot be worked on: there is no other way."""
    if not job.pattern.whole_model:
        return
    for hindrance, met in (
        ("quantised weights are integers", job.quantised),
        ("its weights take more than 2 GB", not fits_one_file(job.dense)),
    ):
        if met:
            raise UnsupportedModelError(
                f"{job.path}: {hindrance}, so that no channels can be chosen; use --pattern "
                "unstructured"
            )


def _check_plugins(recipe: Recipe, backend: str) -> None:
    """Look up by name what is used only much later."""
    pattern = parse_pattern(recipe.pattern)
    if recipe.eliminate_dead_channels and not pattern.survives_removal:
        raise UsageError(
            f"--eliminate-dead-channels would break the pattern {pattern.name}: its groups of "
            "weights lie across channels; leave one of the two out"
        )
    allocation = recipe.allocation
    check_method(allocation.method)
    if pattern.whole_model:
        _check_whole_model(recipe, pattern)
    for start in allocation.search.starts:
        analytic_allocator(start)
    CRITERIA[recipe.criterion]
    RECOVERIES[recipe.training.recovery]
    FITNESS[allocation.search.fitness]
    OBJECTIVES[recipe.training.objective]
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")


def _check_whole_model(recipe: Recipe, pattern: Pattern) -> None:
    """Refuse what decides on single weights or layers, which ``pattern`` has no masks for."""
    method, possible = recipe.allocation.method, whole_model_allocators()
    if method not in (AUTO, *possible):
        one_by_one = method in ALLOCATORS
        untold = "a file says nothing of channels; go on from a search with compress --resume"
        why = "it masks layers one by one" if one_by_one else untold
        raise UsageError(
            f"allocation {method}: {why}; with the pattern {pattern.name} give one of "
            f"{', '.join(possible)}"
        )
    recovery = recipe.training.recovery
    if RECOVERIES[recovery].allocates:
        raise UsageError(
            f"recovery {recovery} decides on single weights; with the pattern {pattern.name} use "
            "another one, such as dynamic"
        )


def _with_batches(recipe: Recipe, data: CalibrationData) -> Recipe:
    """Return ``recipe`` with smaller batches where the samples do not fill one.

    Raises `UsageError` for fewer than `FEWEST_SAMPLES`, unless the recipe's batch asks for so few.
    """
    size = recipe.training.batch_size
    if recipe.training.epochs == 0 or len(data) >= size:
        return recipe
    if len(data) < FEWEST_SAMPLES:
        require_batch(data, size)
    return recipe.with_settings({"training.batch_size": max(1, len(data) // STEPS_OF_FEW)})
