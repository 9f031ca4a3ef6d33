"""The way from a dense model to a sparse one: student, search, training, finish."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx_ir as ir

from onnx_unipts.allocation import Problem
from onnx_unipts.allocation.file import allocation_document
from onnx_unipts.allocation.prescribed import allocate_rest
from onnx_unipts.allocation.problem import History, Kept
from onnx_unipts.callbacks import Epoch, Generation
from onnx_unipts.criteria import CRITERIA, Evidence
from onnx_unipts.finish import Finished, finish
from onnx_unipts.fitness import CandidateEvaluator
from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.model import read_tensors, write_tensors
from onnx_unipts.job import Job
from onnx_unipts.patterns.masking import Scores
from onnx_unipts.reconstruction import reconstruct
from onnx_unipts.run_directory import RunDirectory
from onnx_unipts.student import Student, batches_of, build_student
from onnx_unipts.training.adaptation import adapt_normalizations, agreement_of
from onnx_unipts.training.ort import inference_session
from onnx_unipts.training.recovery import RECOVERIES
from onnx_unipts.training.self_check import check_gradients
from onnx_unipts.training.trainer import Checkpoint, Trainer, gradient_graph, taught_feeds

__all__ = ["Outcome", "SearchOutcome", "run_compression", "run_search"]

SEARCH_BATCH = 128
CHECK_BATCH = 4
# Adaptation that changes more of the dense model's answers than this is no adaptation.
LEAST_AGREEMENT = 0.8


@dataclass
class SearchOutcome:
    """The searched allocation, and what finding it took."""

    kept: Kept
    seconds: float
    evaluations: int
    samples: int
    best_by_generation: list[float]


@dataclass
class Outcome:
    """What a compression found out, beside the file it wrote.

    ``before_recovery`` is the dense model with the same numbers of weights removed, not trained.
    """

    search: SearchOutcome
    before_recovery: ir.Model
    losses: list[float]
    training_seconds: float
    untrained: list[str]
    finished: Finished


def run_compression(job: Job, run: RunDirectory) -> Outcome:
    """Compress the model of ``job`` into its output file; ``run`` keeps what a resume needs."""
    student = _student(job, run)
    search = _search(job, run, student)
    before = _pruned_only(job, student, search.kept)
    began = time.monotonic()
    state, untrained = _train(job, run, student, search.kept)
    tensors, kept = _settled(job, run, student, state, search.kept)
    seconds = time.monotonic() - began
    finished = finish(job, student, tensors, kept)
    return Outcome(search, before, state.losses, seconds, untrained, finished)


def run_search(job: Job, run: RunDirectory) -> SearchOutcome:
    """Find the allocation for the model of ``job`` and write it to ``allocation.json``."""
    return _search(job, run, _student(job, run))


def _student(job: Job, run: RunDirectory) -> Student:
    """Build the student; its tensors are kept, so that a resumed run has the very same ones."""
    student = build_student(job.load(), job.keys, job.data, job.recipe.training, job.cores)
    saved = run.load_checkpoint("student")
    if saved is None:
        student.dense = _adapted(job, student)
        run.save_checkpoint("student", student.dense, {})
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


def _adapted(job: Job, student: Student) -> dict[str, np.ndarray]:
    """The dense tensors, adapted to real data where the recipe wants it and the model allows it."""
    settings = job.recipe.training
    if job.synthetic or settings.epochs == 0 or settings.adaptation == 0:
        return student.dense
    tensors = adapt_normalizations(
        student, job.data, settings, job.recipe.seed, job.replicas, job.progress
    )
    agreement = agreement_of(student, tensors, job.data)
    if agreement >= LEAST_AGREEMENT:
        return tensors
    job.warn(
        f"the dense model does not adapt to the calibration data (it would agree with itself on "
        f"{agreement:.0%} only) and teaches as it is; is the preprocessing right?"
    )
    return student.dense


def _search(job: Job, run: RunDirectory, student: Student) -> SearchOutcome:
    began = time.monotonic()
    method = job.recipe.allocation.method
    history = _JournalHistory(run, job)
    scorer = _Scorer(job, student)
    problem = Problem(
        {key: student.dense[key] for key in job.keys},
        job.sparsity,
        job.recipe.seed,
        job.recipe.allocation.search,
        scorer,
        history,
        job.progress,
        student.masking,
        minimum=job.recipe.allocation.minimum,
        levels=job.recipe.allocation.levels,
    )
    kept = allocate_rest(method, problem, job.prescribed)
    document = allocation_document(job.sparsity, method, kept, problem.counts)
    run.write_json("allocation.json", document)
    records = history.generations
    return SearchOutcome(
        kept,
        time.monotonic() - began,
        sum(record["evaluations"] for record in records),
        scorer.samples,
        [max(record["fitness"]) for record in records],
    )


class _JournalHistory(History):
    """The generations of a search, in the journal of the run."""

    def __init__(self, run: RunDirectory, job: Job) -> None:
        self._run = run
        self._job = job
        self.generations = [entry["record"] for entry in run.entries("generation")]

    def append(self, generation: dict) -> None:
        super().append(generation)
        self._run.append("generation", record=generation)
        total = self._job.recipe.allocation.search.generations + 1
        best = max(score for record in self.generations for score in record["fitness"])
        number, evaluations = generation["generation"], generation["evaluations"]
        self._job.callbacks.generation(Generation(number, total, best, evaluations))


class _Scorer:
    """Scores allocations. What that takes is made at the first call: not all allocators score."""

    def __init__(self, job: Job, student: Student) -> None:
        self._job = job
        self._student = student
        self._rng = np.random.default_rng([job.recipe.seed, 2])
        picked = self._rng.permutation(len(job.data))[: job.recipe.allocation.search.samples]
        size = min(SEARCH_BATCH, len(picked))
        self._slices = [picked[i : i + size] for i in range(0, len(picked) - size + 1, size)]

    def __call__(self, candidates: Sequence[Kept]) -> list[float]:
        return self._evaluator.score(candidates)

    @property
    def samples(self) -> int:
        """The number of samples that one candidate is scored on."""
        return sum(map(len, self._slices))

    @cached_property
    def _evaluator(self) -> CandidateEvaluator:
        return _evaluator(self._job, self._student, self._slices, self._rng)


def _evaluator(
    job: Job, student: Student, slices: Sequence[np.ndarray], rng: np.random.Generator
) -> CandidateEvaluator:
    settings = job.recipe.allocation.search
    clean = [job.data.batch(indices) for indices in slices]
    # On one thread, so that the number of cores changes no bit of what candidates are compared to.
    teacher = inference_session(student.teacher("running"))
    values = student.values
    dense = [dict(zip(values, teacher.run(values, batch), strict=True)) for batch in clean]
    labels = job.data.labels
    return CandidateEvaluator(
        student.with_batch_statistics(),
        student.tensors,
        student.targets,
        [_disturbed(batch, settings.noise, rng) for batch in clean],
        dense,
        None if labels is None else [labels[indices] for indices in slices],
        settings.fitness,
        job.cores,
        job.backend,
        student.masking,
    )


def _disturbed(
    batch: Mapping[str, np.ndarray], noise: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Add noise to the float inputs (UniPTS, arXiv 2405.18810, section 3.3)."""
    return {
        name: value + (noise * rng.standard_normal(value.shape)).astype(value.dtype)
        if np.issubdtype(value.dtype, np.floating)
        else value
        for name, value in batch.items()
    }


def _pruned_only(job: Job, student: Student, kept: Kept) -> ir.Model:
    """The dense model with the weights removed and nothing repaired."""
    model = job.load()
    masking, dense = student.masking, student.dense
    masks = {key: masking.mask(key, dense[key], kept[key]) for key in job.keys}
    stored = read_tensors(model, job.keys)
    write_tensors(model, {key: np.where(mask, stored[key], 0) for key, mask in masks.items()})
    return model


def _train(
    job: Job, run: RunDirectory, student: Student, kept: Kept
) -> tuple[Checkpoint, list[str]]:
    settings = job.recipe.training
    unfitted: list[str] = []
    state = _load_state(run)
    if state is None:
        tensors, unfitted = _start(job, student, kept)
        state = Checkpoint(0, {name: tensor.copy() for name, tensor in tensors.items()})
    if settings.epochs == 0 or not student.trained:
        return state, unfitted
    if state.epoch == 0:
        _check(job, student, kept)
    trainer = Trainer(student, kept, job.data, settings, job.recipe.seed, job.replicas)
    if trainer.unreached:
        job.warn(f"no gradient reaches {', '.join(trainer.unreached)}: pruned without training")
    if state.epoch < settings.epochs:
        for reached in trainer.epochs(state, job.progress):
            _require_finite(reached, settings.learning_rate)
            _save_state(run, reached)
            losses = reached.losses[len(state.losses) :]
            job.callbacks.epoch(Epoch(reached.epoch, settings.epochs, losses))
            state = reached
    return state, list(trainer.unreached)


def _start(job: Job, student: Student, kept: Kept) -> tuple[Mapping[str, np.ndarray], list[str]]:
    """The tensors that training starts from, and the weights that nothing was done to so far."""
    if not job.recipe.training.reconstruction:
        return student.tensors, list(student.prunable)
    tensors, unfitted = reconstruct(student, kept, job.data, job.cores, job.progress)
    if unfitted:
        job.warn(f"not fitted to its dense outputs: {', '.join(unfitted)}")
    return tensors, unfitted


def _settled(
    job: Job, run: RunDirectory, student: Student, state: Checkpoint, kept: Kept
) -> tuple[dict[str, np.ndarray], Kept]:
    """The trained tensors, pruned, and what each keeps; a recovery may have changed the latter."""
    recovery = RECOVERIES[job.recipe.training.recovery](student, kept)
    recovery.begin(state.tensors)
    tensors, counts = recovery.settle(state.tensors)
    settled = {**kept, **counts}
    if settled != kept:
        sizes = {key: student.dense[key].size for key in job.keys}
        method = job.recipe.training.recovery
        document = allocation_document(job.sparsity, method, settled, sizes)
        run.write_json("allocation.json", document)
    return tensors, settled


def _require_finite(state: Checkpoint, learning_rate: float) -> None:
    """Raise `UsageError` if the epoch that ended here diverged."""
    broken = np.flatnonzero(~np.isfinite(state.losses))
    if not len(broken) and all(np.isfinite(tensor).all() for tensor in state.tensors.values()):
        return
    where = (
        f"the loss is {state.losses[broken[0]]} at step {broken[0] + 1}"
        if len(broken)
        else ("weights are infinite")
    )
    raise UsageError(
        f"training diverged: {where}, in epoch {state.epoch}; use a learning rate (--lr) below "
        f"{learning_rate:g}"
    )


def _check(job: Job, student: Student, kept: Kept) -> None:
    """Compare gradients with finite differences; refuse to train where they are wrong.

    At half the sparsity: unlike the dense model the student is then not at its optimum, and unlike
    the sparse one not so broken that every step of a finite difference crosses many kinks.
    """
    size = min(CHECK_BATCH, job.recipe.training.batch_size)
    graph = gradient_graph(student, size)
    batch = next(batches_of(job.data, size))
    tensors = {
        name: tensor * student.masking.mask(name, tensor, (tensor.size + kept[name]) // 2)
        if name in student.prunable
        else tensor
        for name, tensor in student.tensors.items()
    }
    feeds = taught_feeds(student, job.recipe.training, batch)
    check = check_gradients(graph, {**tensors, **batch, **feeds})
    if not check.passed:
        worst = sorted(check.errors, key=lambda name: -check.errors[name])[:3]
        raise UnsupportedModelError(
            f"{job.path}: gradients differ from finite differences, by {check.median:.0%} in the "
            f"median, most at {', '.join(worst)}; use --epochs 0 to prune without training"
        )
    if check.wrong:
        job.warn(f"the gradients of {', '.join(check.wrong)} may be inexact")


def _save_state(run: RunDirectory, state: Checkpoint) -> None:
    arrays = {f"tensor/{name}": value for name, value in state.tensors.items()}
    arrays |= {f"velocity/{name}": value for name, value in state.velocity.items()}
    run.save_checkpoint("training", arrays, {"epoch": state.epoch, "losses": state.losses})


def _load_state(run: RunDirectory) -> Checkpoint | None:
    saved = run.load_checkpoint("training")
    if saved is None:
        return None
    arrays, state = saved
    parts: dict[str, dict[str, np.ndarray]] = {"tensor": {}, "velocity": {}}
    for name, value in arrays.items():
        part, _, tensor = name.partition("/")
        parts[part][tensor] = value
    return Checkpoint(state["epoch"], parts["tensor"], parts["velocity"], state["losses"])
