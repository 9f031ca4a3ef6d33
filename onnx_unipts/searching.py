"""Searching the allocation: how many weights of each layer, or which channels, stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_unipts.allocation import Problem
from onnx_unipts.allocation.file import allocation_document
from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.prescribed import allocate_rest
from onnx_unipts.allocation.problem import History, zeros_for
from onnx_unipts.callbacks import Generation
from onnx_unipts.channels.groups import find_channels
from onnx_unipts.channels.selection import Choice
from onnx_unipts.channels.update import Update
from onnx_unipts.graph.model import read_tensors
from onnx_unipts.job import Job
from onnx_unipts.layer_scoring import LayerScorer
from onnx_unipts.memory import give_back
from onnx_unipts.patterns.masking import magnitude_scores
from onnx_unipts.run_directory import RunDirectory
from onnx_unipts.run_files import ALLOCATION
from onnx_unipts.scoring import SEARCH_BATCH, CandidateScorer
from onnx_unipts.student import Student, batches_of

__all__ = ["SearchOutcome", "search_allocation", "tell_of_zeros"]

# Samples on which the weights that read removed channels are updated.
UPDATE_SAMPLES = 1024


@dataclass
class SearchOutcome:
    """The searched allocation, and what finding it took."""

    kept: Kept
    seconds: float
    evaluations: int
    images: int
    best_by_generation: list[float]


def search_allocation(
    job: Job, run: RunDirectory, student: Student, searching: bool = False
) -> SearchOutcome:
    """Find the allocation for ``job`` and write it to ``allocation.json``.

    ``searching`` where the allocation is all that is asked for.
    """
    run.times.begin("search")
    give_back()
    history = _JournalHistory(run, job)
    method = job.allocator(searching or history.of_candidates)
    scorer = CandidateScorer(job, student)
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
        stages=scorer.stages,
        layer_score=LayerScorer(job, student),
    )
    tell_of_zeros(job, problem)
    if job.pattern.whole_model:
        kept, channels = _choose_channels(job, student, method, problem)
    else:
        kept, channels = allocate_rest(method, problem, job.prescribed), {}
    document = allocation_document(job.sparsity, method, kept, problem.counts)
    if channels:
        document["channels"] = channels
    run.write_json(ALLOCATION, document)
    records = history.generations
    seconds = run.times.end("search")
    run.note_times()
    return SearchOutcome(
        kept,
        seconds,
        sum(record["evaluations"] for record in records),
        sum(record["images"] for record in records),
        [record["best"] for record in records],
    )


def tell_of_zeros(job: Job, problem: Problem) -> None:
    """Warn of a model that is sparser already than it is to be."""
    count = sum(problem.counts.values())
    zeros = count - sum(int(np.count_nonzero(weight)) for weight in problem.weights.values())
    if zeros > zeros_for(job.sparsity, count):
        there = zeros / count
        job.warn(f"{there:.2%} of the weights are zero already: more than {job.sparsity:.2%}")


def _choose_channels(
    job: Job, student: Student, method: str, problem: Problem
) -> tuple[Kept, dict[str, int]]:
    """Choose the channels that stay: what each weight and each space of channels keeps.

    All masks hold them from now on, and the weights that stay are updated for what they read less.
    """
    channels = find_channels(job.dense, job.weights)
    limit = student.affordable(UPDATE_SAMPLES)
    batches = batches_of(job.data, student.divided(min(SEARCH_BATCH, limit)), limit)
    runs = (run for batch in batches for run in student.batching.runs(batch))
    update = Update(student.model, student.dense, channels, runs, job.cores)
    stored = read_tensors(job.dense, list(channels.axes))
    scores = student.masking.scores
    # The filters of the student have another scale than those of the model: see `filter_scale`.
    scored = stored if scores is magnitude_scores else student.dense
    importance = {key: np.asarray(scores(key, scored[key])) for key in channels.axes}
    choice = Choice(channels, importance, update, job.sparsity, student.masking)
    student.masking = choice.candidates
    masking, updated, left = choice.solve(method, problem)
    student.masking = job.masking = masking
    student.tensors |= updated
    return masking.kept(job.keys), left


class _JournalHistory(History):
    """The generations of a search, in the journal of the run."""

    def __init__(self, run: RunDirectory, job: Job) -> None:
        self._run = run
        self._job = job
        self.generations = [entry["record"] for entry in run.entries("generation")]

    @property
    def of_candidates(self) -> bool:
        """Whether a search of whole allocations has begun, not one layer by layer."""
        return any("layer" not in record for record in self.generations)

    def append(self, generation: dict) -> None:
        super().append(generation)
        self._run.append("generation", record=generation)
        self._run.note_times()
        settings = self._job.recipe.allocation.search
        total = len(self._job.keys) if "layer" in generation else settings.generations + 1
        best = max(record["best"] for record in self.generations)
        number, evaluations = generation["generation"], generation["evaluations"]
        self._job.callbacks.generation(Generation(number, total, best, evaluations))
