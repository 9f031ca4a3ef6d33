"""The way from a dense model to a sparse one: student, search, training, finish."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.allocation import SEARCHES, Problem
from onnx_unipts.allocation.file import allocation_document
from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.prescribed import allocate_rest
from onnx_unipts.calibration import CalibrationData
from onnx_unipts.criteria import CRITERIA, Evidence
from onnx_unipts.finish import Finished, finish, finish_untrained
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.graph.model import fits_one_file, read_tensors, write_lazily
from onnx_unipts.graph.prunable import PrunableWeight
from onnx_unipts.graph.reason import reason_of
from onnx_unipts.job import Job
from onnx_unipts.memory import give_back
from onnx_unipts.patterns.masking import Masking, Scores
from onnx_unipts.recover import recover
from onnx_unipts.rehearsal import rehearsed
from onnx_unipts.rotating import ROTATION, rotated
from onnx_unipts.run_directory import RunDirectory
from onnx_unipts.run_files import ALLOCATION
from onnx_unipts.searching import SearchOutcome, search_allocation, tell_of_zeros
from onnx_unipts.student import Student, build_student, write_back
from onnx_unipts.synthesis import refine_images
from onnx_unipts.training.adaptation import adapt_normalizations, agreement_of, commonest_share
from onnx_unipts.training.ort import RUNTIME_ERRORS
from onnx_unipts.training.recovery import RECOVERIES

__all__ = ["PREPARATION", "Outcome", "run_compression", "run_search"]

# The checkpoints of what does not depend on the sparsity.
PREPARATION = (ROTATION, "synthetic", "student", "student-unadapted")
# What allocates where candidates cannot be scored.
UNSCORED = "lamp"
# Adaptation that changes more of the dense model's answers than this is no adaptation.
LEAST_AGREEMENT = 0.8
# Of answers, the share that may be one class for the model to adapt by them.
MOST_ALIKE = 0.95
# Values too large for single precision show in what comes of them, which is checked.
QUIET = np.errstate(over="ignore", invalid="ignore")


@dataclass
class Outcome:
    """What a compression found out, beside the file it wrote.

    ``before_recovery`` is the dense model with the same numbers of weights removed, not trained;
    None where that is what was written. ``history`` is what `Course` measured. ``fitted`` says
    whether layers were fitted before training, ``rotated`` whether the model was rotated.
    """

    search: SearchOutcome
    before_recovery: ir.Model | None
    losses: list[float]
    history: Sequence[Mapping[str, Any]]
    training_seconds: float
    untrained: list[str]
    finished: Finished
    fitted: bool = False
    rotated: bool = False


@QUIET
def run_compression(job: Job, run: RunDirectory) -> Outcome:
    """Compress the model of ``job`` into its output file; ``run`` keeps what a resume needs.

    A model that cannot be worked on, though it can be run, is pruned without training.
    """
    give_back()
    if job.pattern.whole_model:
        return _cut_channels(job, run)
    if job.quantised:
        job.warn("pruned without training: quantised weights are integers")
        return _only_prune(job, run)
    if not fits_one_file(job.dense):
        job.warn("pruned without training: the weights take more than 2 GB")
        return _only_prune(job, run, "uniform")
    job = rotated(job, run)
    try:
        job = rehearsed(job, run, _end_of)
        return _compress(*_prepared(job, run))
    except UnsupportedModelError as error:
        job.warn(f"pruned without training: {error}")
    except RUNTIME_ERRORS as error:
        job.warn(f"pruned without training: {reason_of(error)}")
    return _only_prune(job, run)


def _cut_channels(job: Job, run: RunDirectory) -> Outcome:
    """Compress a model by channels, for which there is no way without working on it."""
    return _compress(*_prepared(job, run))


def _prepared(job: Job, run: RunDirectory) -> tuple[Job, RunDirectory, Student]:
    """Return ``job`` with the data that it is done on, and the student of it."""
    run.times.begin("preparation")
    try:
        job = replace(job, data=_data(job, run))
        return job, run, _student(job, run)
    finally:
        run.times.end("preparation")


def _compress(job: Job, run: RunDirectory, student: Student) -> Outcome:
    search = search_allocation(job, run, student)
    before = _pruned_only(job, student.dense, search.kept, student.masking)
    run.times.begin("training")
    recovery = recover(job, run, student, search.kept)
    seconds = run.times.end("training")
    run.note_times()
    if recovery.kept != search.kept:
        method = job.recipe.training.recovery
        sizes = {key: student.dense[key].size for key in job.keys}
        document = allocation_document(job.sparsity, method, recovery.kept, sizes)
        run.write_json(ALLOCATION, document)
    done = finish(job, student, recovery.tensors, recovery.kept)
    return Outcome(
        search,
        before,
        recovery.losses,
        recovery.history,
        seconds,
        recovery.untrained,
        done,
        fitted=bool(job.recipe.training.reconstruction),
        rotated=bool(job.rotated),
    )


def _end_of(job: Job, run: RunDirectory) -> ir.Model:
    """Return the sparse model that ``job`` ends with, which is not written."""
    job, run, student = _prepared(job, run)
    search = search_allocation(job, run, student)
    recovery = recover(job, run, student, search.kept)
    model = job.load()
    write_back(student, model, recovery.tensors)
    return model


def _only_prune(job: Job, run: RunDirectory, unscored: str = UNSCORED) -> Outcome:
    """Prune by an allocation that needs no run of the model, with no copy of its weights."""
    began = time.monotonic()
    stored = read_tensors(job.dense, job.keys)
    dense = {w.key: _plain(stored[w.key], w.zero) for w in job.pruned}
    method = job.allocator(searching=True)
    settings, minimum = job.recipe.allocation.search, job.recipe.allocation.minimum
    problem = Problem(
        dense, job.sparsity, job.recipe.seed, settings, masking=job.masking, minimum=minimum
    )
    tell_of_zeros(job, problem)
    method = unscored if method in SEARCHES else method
    kept = allocate_rest(method, problem, job.prescribed)
    document = allocation_document(job.sparsity, method, kept, problem.counts)
    run.write_json(ALLOCATION, document)
    search = SearchOutcome(kept, time.monotonic() - began, 0, 0, [])
    done = finish_untrained(job, _pruned_only(job, dense, kept, job.masking), kept)
    return Outcome(search, None, [], [], 0.0, list(job.keys), done, rotated=bool(job.rotated))


def _plain(array: np.ndarray, zero: int) -> np.ndarray:
    """Return float32 values that are zero where ``zero`` is stored; the same array if it can be."""
    return array.astype(np.float32, copy=False) if zero == 0 else array.astype(np.float32) - zero


@QUIET
def run_search(job: Job, run: RunDirectory) -> SearchOutcome:
    """Find the allocation for the model of ``job`` and write it to ``allocation.json``."""
    return search_allocation(*_prepared(rotated(job, run), run), searching=True)


def _data(job: Job, run: RunDirectory) -> CalibrationData:
    """The calibration data; made-up images are refined, and kept, so that a resume has them too."""
    settings = job.recipe.synthetic
    if not job.synthetic or settings.refinement == 0 or job.recipe.training.epochs == 0:
        return job.data
    saved = run.load_checkpoint("synthetic")
    if saved is not None:
        return job.data.with_pixels(saved[0])
    try:
        pixels = refine_images(
            job.dense, job.data, settings, job.recipe.seed, job.cores, job.progress
        )
    except (UnsupportedModelError, *RUNTIME_ERRORS) as error:
        job.warn(f"the made-up images are not refined: {reason_of(error)}")
        return job.data
    if not pixels:
        return job.data
    run.save_checkpoint("synthetic", pixels, {})
    return job.data.with_pixels(pixels)


def _student(job: Job, run: RunDirectory) -> Student:
    """Build the student; its tensors are kept, so that a resumed run has the very same ones."""
    student = isolated(_built_student, job)
    name = "student" if job.adaptation else "student-unadapted"
    saved = run.load_checkpoint(name)
    if saved is None:
        student.dense = _adapted(job, student)
        run.save_checkpoint(name, student.dense, {})
    else:
        student.dense = saved[0]
    student.tensors = dict(student.dense)
    student.masking = replace(job.masking, scores=_scores(job, student))
    student.trained = RECOVERIES[job.recipe.training.recovery].trained(student)
    return student


def _scores(job: Job, student: Student) -> Scores:
    """How important weights are, by the recipe's criterion, measured on the dense model."""
    student.masking = job.masking
    evidence = Evidence(
        student, job.data, job.recipe.training, job.recipe.seed, job.cores, job.warn
    )
    return CRITERIA[job.recipe.criterion](evidence)


def _built_student(job: Job) -> Student:
    return build_student(
        job.load(),
        job.keys,
        job.data,
        job.recipe.training,
        job.cores,
        job.batching,
        restated=job.restates,
    )


def _adapted(job: Job, student: Student) -> dict[str, np.ndarray]:
    """The dense tensors, adapted to real data where recipe and model allow it."""
    settings = job.recipe.training
    if job.adaptation == 0 or not student.normalizations:
        return student.dense
    if commonest_share(student, job.data) > MOST_ALIKE:
        job.progress.message(
            "the dense model teaches as it is: its answers are too much alike to adapt by"
        )
        return student.dense
    tensors = adapt_normalizations(
        student, job.data, settings, job.recipe.seed, job.replicas, job.progress
    )
    if tensors is None:
        return student.dense
    agreement = agreement_of(student, tensors, job.data)
    if agreement >= LEAST_AGREEMENT:
        return tensors
    job.warn(
        f"the dense model does not adapt to the calibration data (it would agree with itself on "
        f"{agreement:.0%} only) and teaches as it is; is the preprocessing right?"
    )
    return student.dense


def _pruned_only(
    job: Job, dense: Mapping[str, np.ndarray], kept: Kept, masking: Masking
) -> ir.Model:
    """The dense model with the weights removed and nothing repaired."""
    model = job.load()
    stored = read_tensors(model, job.keys)

    def pruned(weight: PrunableWeight) -> np.ndarray:
        key = weight.key
        mask = masking.mask(key, dense[key], kept[key])
        return np.where(mask, stored[key], stored[key].dtype.type(weight.zero))

    write_lazily(model, {weight.key: partial(pruned, weight) for weight in job.pruned})
    return model
