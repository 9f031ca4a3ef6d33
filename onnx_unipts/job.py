"""What a run is about: model, data, recipe and output, read and checked before anything long."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.allocation import ALLOCATORS, analytic_allocator
from onnx_unipts.allocation.automatic import AUTO, allocator_for
from onnx_unipts.allocation.file import check_method
from onnx_unipts.allocation.prescribed import check_prescribed, prescribed_sparsities
from onnx_unipts.calibration import (
    CalibrationData,
    Preprocessing,
    input_signature,
    is_synthetic,
    load_calibration_data,
    require_batch,
)
from onnx_unipts.callbacks import Callbacks
from onnx_unipts.criteria import CRITERIA
from onnx_unipts.data_check import check_file, value_ranges
from onnx_unipts.environment import versions
from onnx_unipts.export import Storage
from onnx_unipts.external_data import data_files, digest
from onnx_unipts.fitness import BACKENDS, FITNESS
from onnx_unipts.graph.dynamic_batch import Batching, batching_of
from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.graph.model import find_nonfinite, load_model
from onnx_unipts.graph.prunable import PrunableWeight, find_prunable, matching
from onnx_unipts.patterns import Layout, Masking, Pattern, parse_pattern, target_sparsity
from onnx_unipts.probing import require_running, with_running_sizes
from onnx_unipts.progress import Progress, Quiet
from onnx_unipts.recipe import Recipe
from onnx_unipts.training.objective import OBJECTIVES
from onnx_unipts.training.recovery import RECOVERIES
from onnx_unipts.training.trainer import available_cores, replicas_for

__all__ = ["Job", "prepare_job"]

FINGERPRINT_SAMPLES = 256
# Kinds of weights that are pruned unasked where a model has no others.
LAST_RESORTS = ("recurrent", "optional", "quantised")
# Steps per epoch where the samples do not fill one batch.
STEPS_OF_FEW = 4
# Fewer than these say nothing about what a model will meet.
FEWEST_SAMPLES = 8


@dataclass
class Job:
    """A compression, ready to run.

    ``dense`` is the user's model and never changed: `load` gives a fresh copy to work on.
    ``pruned`` are the weights to prune, ``weights`` also those that are not, with the reason;
    ``synthetic`` says that ``data`` was made up, ``batching`` how samples are fed to the model.
    """

    path: Path
    output: Path
    recipe: Recipe
    sparsity: float
    dense: ir.Model
    weights: list[PrunableWeight]
    data: CalibrationData
    eval_data: CalibrationData | None
    command: str
    cores: int
    backend: str = "threading"
    progress: Progress = field(default_factory=Quiet)
    warnings: list[str] = field(default_factory=list)
    synthetic: bool = False
    callbacks: Callbacks = field(default_factory=Callbacks)
    storage: Storage = field(default_factory=lambda: Storage("dense"))
    batching: Batching = field(default_factory=Batching)

    @property
    def pruned(self) -> list[PrunableWeight]:
        """The weights to prune."""
        return [weight for weight in self.weights if weight.pruned]

    @property
    def keys(self) -> list[str]:
        """The keys of the weights to prune."""
        return [weight.key for weight in self.pruned]

    @cached_property
    def pattern(self) -> Pattern:
        """Which weights may be zero together."""
        return parse_pattern(self.recipe.pattern)

    @cached_property
    def masking(self) -> Masking:
        """How the masks of the weights to prune are made."""
        return Masking(self.pattern, {weight.key: Layout.of(weight) for weight in self.pruned})

    def allocator(self, searching: bool = False) -> str:
        """The name of what shares the sparsity out, or a file; ``searching`` where that is all."""
        trained = self.recipe.training.epochs > 0 and not self.pattern.whole_model
        return allocator_for(self.recipe.allocation.method, searching or not trained)

    @property
    def eliminates(self) -> bool:
        """Whether dead channels are removed from the sparse model.

        Unless told, not from a model in dense format: who asks for that may count on finding every
        weight in its shape, with its zeros.
        """
        wanted = self.recipe.eliminate_dead_channels
        if wanted is not None:
            return wanted
        kept_whole = self.storage.format == "dense" and not self.pattern.whole_model
        return self.pattern.survives_removal and not kept_whole

    @property
    def quantised(self) -> bool:
        """Whether some of the weights to prune are integers: these are not trained."""
        return any(weight.dtype in ("INT8", "UINT8") for weight in self.pruned)

    @property
    def own_batching(self) -> Batching | None:
        """How the user's files are fed; None where the shapes of their inputs say it."""
        return self.batching if self.batching.size is not None else None

    @property
    def replicas(self) -> int:
        """How many replicas of the student share a batch."""
        return replicas_for(self.recipe.training.batch_size, self.cores)

    def load(self) -> ir.Model:
        """Return a fresh copy of the user's model."""
        return load_model(self.path)

    @property
    def prescribed(self) -> dict[str, float]:
        """The sparsity of the weights whose sparsity the recipe prescribes, by key."""
        return prescribed_sparsities(self.weights, self.recipe.layer_sparsity)

    def warn(self, text: str) -> None:
        """Tell the user now, and once more in the report."""
        self.warnings.append(text)
        self.progress.warning(text)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the result depends on: a run is resumed only where all of it is equal."""
        return {
            "model": digest([self.path, *data_files(self.path)]),
            "output": os.path.abspath(self.output),
            "sparsity": self.sparsity,
            "recipe": self.recipe.model_dump(mode="json"),
            "data": _fingerprint(self.data),
            "replicas": self.replicas,
            "versions": versions(),
        }


def prepare_job(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    recipe: Recipe,
    *,
    data: Any,
    eval_data: Any,
    preprocessing: Preprocessing | None,
    input_shapes: Mapping[str, tuple[int, ...]],
    jobs: int | None,
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
    preprocessing = preprocessing or recipe.preprocessing.options()
    path = Path(model)
    dense = load_model(path)
    weights = _weights(dense, path, recipe)
    batching = isolated(batching_of, dense)
    signature = input_signature(dense, input_shapes, batching.whole)
    load = partial(load_calibration_data, data, options=preprocessing, seed=recipe.seed)
    if is_synthetic(data):
        guess = load(signature, num_samples=1).batch(np.arange(1))
        signature = with_running_sizes(path, signature, guess)
    loaded = load(signature, num_samples=recipe.num_samples)
    fed = batching if batching.size is not None else None
    require_running(path, fed, loaded.batch(np.arange(1)))
    held_out = None
    if eval_data is not None:
        held_out = load_calibration_data(eval_data, signature, preprocessing, seed=recipe.seed)
    if recipe.training.epochs > 0:
        recipe = _with_fitting_batch(recipe, loaded)
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
        jobs or available_cores(),
        backend,
        progress,
        synthetic=is_synthetic(data),
        batching=batching,
    )
    _check_prescribed(job)
    _present_data(job)
    if not any(weight.pruned for weight in _found(dense, recipe)):
        operators = ", ".join(sorted({weight.operator for weight in job.pruned}))
        job.warn(f"the model has no other weights: those of {operators} are pruned")
    if (size := recipe.training.batch_size) != wanted:
        job.warn(f"{len(loaded)} samples do not fill a batch of {wanted}: trained by {size} a step")
    return job


def _check_prescribed(job: Job) -> None:
    counts = {weight.key: weight.count for weight in job.pruned}
    method = job.recipe.allocation.method
    check_prescribed(method, job.pattern, counts, job.sparsity, job.prescribed)
    if job.prescribed and job.recipe.training.recovery == "learned-thresholds":
        raise UsageError(
            "recovery learned-thresholds gives every layer its sparsity; leave out --layer-sparsity"
        )


def _present_data(job: Job) -> None:
    """Say what the data is and what was assumed about it, and what looks wrong with it."""
    described = {"calibration data": job.data}
    if job.eval_data is not None:
        described["evaluation data"] = job.eval_data
    for name, data in described.items():
        job.progress.message(f"{name}: {data.description}")
        for line in value_ranges(data):
            job.progress.message(line)
        for warning in data.warnings:
            job.warn(warning)
    if job.synthetic:
        described.pop("calibration data")
    for name, data in described.items():
        for warning in check_file(job.path, job.dense, data, job.cores):
            job.warn(f"{name}: {warning}")


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
    if pattern.whole_model and allocation.method not in (AUTO, *ALLOCATORS):
        raise UsageError(
            f"allocation {allocation.method}: a file says nothing of channels; with the pattern "
            f"{pattern.name} give one of {', '.join(ALLOCATORS)}"
        )
    if pattern.whole_model and recipe.training.recovery == "learned-thresholds":
        raise UsageError(
            f"recovery learned-thresholds decides on single weights; with the pattern "
            f"{pattern.name} use another one, such as dynamic"
        )
    for start in allocation.search.starts:
        analytic_allocator(start)
    CRITERIA[recipe.criterion]
    RECOVERIES[recipe.training.recovery]
    FITNESS[allocation.search.fitness]
    OBJECTIVES[recipe.training.objective]
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")


def _weights(model: ir.Model, path: Path, recipe: Recipe) -> list[PrunableWeight]:
    pattern = parse_pattern(recipe.pattern)
    weights = [_objected(w, pattern) for w in _found(model, recipe)]
    for kind in LAST_RESORTS:
        if not any(weight.pruned for weight in weights):
            included = recipe.with_settings({"include": (*recipe.include, kind)})
            weights = [_objected(w, pattern) for w in _found(model, included)]
    pruned = [weight.key for weight in weights if weight.pruned]
    if not pruned:
        reasons = sorted({weight.reason for weight in weights if weight.reason})
        why = f" ({'; '.join(reasons[:3])})" if reasons else ""
        raise UnsupportedModelError(
            f"{path}: no prunable weight found{why}; prunable are constant weights of Conv, "
            "ConvTranspose, Gemm and MatMul, see onnx-unipts inspect"
        )
    where = find_nonfinite(model) or find_nonfinite(model, pruned)
    if where is not None:
        raise UnsupportedModelError(
            f"{path}: {where} holds NaN or infinite values; export the model again"
        )
    return weights


def _found(model: ir.Model, recipe: Recipe) -> list[PrunableWeight]:
    weights = find_prunable(model, recipe.exclude, recipe.include, recipe.only)
    for pattern in recipe.only:
        if not matching(weights, pattern):
            raise UsageError(f"only {pattern!r} matches no weight; see onnx-unipts inspect")
    return weights


def _objected(weight: PrunableWeight, pattern: Pattern) -> PrunableWeight:
    """Leave out what cannot have the pattern."""
    reason = pattern.objection(weight) if weight.pruned else ""
    return replace(weight, pruned=False, reason=reason) if reason else weight


def _with_fitting_batch(recipe: Recipe, data: CalibrationData) -> Recipe:
    """Return ``recipe``, with a smaller batch if ``data`` does not fill one.

    Raises `UsageError` for fewer than `FEWEST_SAMPLES`, unless the recipe's batch asks for so few.
    """
    if len(data) >= recipe.training.batch_size:
        return recipe
    if len(data) < FEWEST_SAMPLES:
        require_batch(data, recipe.training.batch_size)
    return recipe.with_settings({"training.batch_size": max(1, len(data) // STEPS_OF_FEW)})


def _fingerprint(data: CalibrationData) -> dict[str, Any]:
    """Identify the data by its size, its labels and the content of evenly spread samples."""
    picked = np.unique(np.linspace(0, len(data) - 1, FINGERPRINT_SAMPLES).astype(int))
    sha256 = hashlib.sha256()
    for name, values in data.batch(picked).items():
        sha256.update(name.encode())
        sha256.update(np.ascontiguousarray(values).tobytes())
    if data.labels is not None:
        sha256.update(np.ascontiguousarray(data.labels).tobytes())
    return {"samples": len(data), "sha256": sha256.hexdigest()}
