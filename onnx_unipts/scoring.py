"""Scoring the candidates of a search: samples, noise, and the stages of successive halving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from onnx_unipts.allocation.halving import Stage, stage_ends
from onnx_unipts.allocation.kept import Kept
from onnx_unipts.evaluation import run_samples
from onnx_unipts.fitness import FITNESS, CandidateEvaluator
from onnx_unipts.job import Job
from onnx_unipts.student import Student
from onnx_unipts.training.ort import InferenceSession, inference_session

__all__ = ["SEARCH_BATCH", "CandidateScorer"]

SEARCH_BATCH = 64
# Forward passes that a sample takes in training, gradient and teacher included.
TRAINING_PASSES = 4
# What a search may always take: a minute or two on one core.
SEARCH_MULTIPLICATIONS = 1_000_000_000_000


class CandidateScorer:
    """Scores allocations. What that takes is made at the first call: not all allocators score."""

    def __init__(self, job: Job, student: Student) -> None:
        self._job = job
        self._student = student
        self._rng = np.random.default_rng([job.recipe.seed, 2])
        picked = self._rng.permutation(len(job.data))[: _search_samples(job, student)]
        size = min(student.divided(SEARCH_BATCH), len(picked))
        self._slices = [picked[i : i + size] for i in range(0, len(picked) - size + 1, size)]

    def __call__(self, candidates: Sequence[Kept]) -> list[float]:
        """Return the fitness of each candidate on all samples."""
        return self._evaluator.score(candidates)

    @property
    def stages(self) -> list[Stage]:
        """The samples in the stages of successive halving, or in one."""
        halving = self._job.recipe.allocation.search.halving
        ends = stage_ends(len(self._slices)) if halving else [len(self._slices)]
        return [
            Stage(
                partial(self._score_part, slice(begin, end)), sum(map(len, self._slices[begin:end]))
            )
            for begin, end in pairwise([0, *ends])
        ]

    def _score_part(self, part: slice, candidates: Sequence[Kept]) -> list[float]:
        return self._evaluator.score(candidates, part)

    @cached_property
    def _evaluator(self) -> CandidateEvaluator:
        return _evaluator(self._job, self._student, self._slices, self._rng)


def _search_samples(job: Job, student: Student) -> int:
    """Return how many samples score a candidate.

    What the recipe says, or fewer where a search of a large model would take longer than both a
    minute and twice the training.
    """
    settings, training = job.recipe.allocation.search, job.recipe.training
    evaluations = settings.population * (settings.generations + 1)
    steps = training.epochs * len(job.data) * TRAINING_PASSES
    one = evaluations * max(student.multiplications, 1)
    most = max(SEARCH_MULTIPLICATIONS // one, 2 * steps // evaluations, 1)
    return min(settings.samples, len(job.data), most)


def _evaluator(
    job: Job, student: Student, slices: Sequence[np.ndarray], rng: np.random.Generator
) -> CandidateEvaluator:
    settings = job.recipe.allocation.search
    clean = [job.data.batch(indices) for indices in slices]
    # On one thread, so that the number of cores changes no bit of what candidates are compared to.
    teacher = inference_session(student.teacher("running"))
    dense = [_outputs(student, teacher, batch) for batch in clean]
    labels = job.data.labels
    return CandidateEvaluator(
        student.with_batch_statistics(),
        student.tensors,
        student.targets,
        [_disturbed(batch, settings.noise, rng) for batch in clean],
        dense,
        FITNESS[settings.fitness],
        None if labels is None else [labels[indices] for indices in slices],
        job.cores,
        job.backend,
        student.masking,
        student.batching,
    )


def _outputs(
    student: Student, session: InferenceSession, batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return what candidates are compared by: the values of the targets, by name."""
    names = list(dict.fromkeys(target.value for target in student.targets))
    arrays = run_samples(session, names, batch, student.batching)
    return dict(zip(names, arrays, strict=True))


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
