"""The attempts at training: what learns, from where on, how fast, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnx_unipts.job import Job
from onnx_unipts.recipe import Training
from onnx_unipts.reconstruction import body_of, fitting_views
from onnx_unipts.student import Student
from onnx_unipts.training.trainer import SMALLEST_SLICE

__all__ = ["Attempt", "Untrained", "attempts_at"]

# The attempts, each by its share of the learning rate. The later ones are careful: the statistics
# of normalisations stay those of the pruned model, steps are relative to the weights. In few steps
# these are longer, so that they lead over `PATH` of the weights in all.
RATES = (1.0, 0.1, 0.01, 0.001)
CAREFUL_FROM = 2
PATH = 0.01
# The share of the learning rate where inner values are all that is learned from. MobileNetV2, 600
# steps: half and twice as much do as well.
INSIDE = 0.05


@dataclass(frozen=True)
class Attempt:
    """One attempt at training.

    Attributes:
        number: its place among all, by which a resumed run knows it.
        learner: the student as it learns; without targets, from inner values alone.
        settled: the student as which what was trained is written: the statistics of the
            normalisations that it has are measured again.
        start: the tensors that training starts from.
        settings: those of the recipe, as far as this attempt takes them; its peak learning rate.
        careful: whether steps are relative to the weights, and statistics those of samples as
            they are.
        parts: whether a step sees parts of its images, enlarged.
    """

    number: int
    learner: Student
    settled: Student
    start: Mapping[str, np.ndarray]
    settings: Training
    careful: bool = False
    parts: bool = False


@dataclass(frozen=True)
class Untrained:
    """What there is before training.

    Attributes:
        best: the tensors that would be written.
        fitted: whether layers were fitted.
        renewed: whether ``best`` are the fitted ones: what becomes of them is written with
            statistics of its own, as those it trains with belong to the weights before.
        wholly: whether no layer of ``best`` was left out of the fit.
    """

    best: Mapping[str, np.ndarray]
    fitted: bool
    renewed: bool
    wholly: bool


def attempts_at(job: Job, student: Student, untrained: Untrained) -> list[Attempt]:
    """Return the attempts at training, the boldest first.

    The careful ones, which are all where the recipe has fitted layers trained carefully or batches
    are too small to normalise by, train the best there is without training: with its statistics, on
    its outputs alone. Where that was fitted, wholly, the first of them learns from inner values
    instead, if there is a `body_of` the student.
    """
    settings = job.recipe.training
    at_once = settings.model_copy(update={"ramp": 0.0})  # pruned already: nothing grows back first
    bold = [
        Attempt(
            number=number,
            learner=student,
            settled=student,
            start=untrained.best if untrained.renewed else student.tensors,
            settings=_at(
                at_once if untrained.renewed else settings, settings.learning_rate * RATES[number]
            ),
        )
        for number in range(CAREFUL_FROM)
    ]
    settings = at_once
    alone = replace(student, normalizations=(), features=())
    body = (body_of(student) if untrained.renewed and untrained.wholly else None) or alone
    careful = []
    for number in range(CAREFUL_FROM, len(RATES)):
        learner = body if number == CAREFUL_FROM else alone
        inside = not learner.targets
        attempt = Attempt(
            number=number,
            learner=learner,
            settled=student if untrained.renewed else learner,
            start=untrained.best,
            settings=_inside(settings) if inside else _at(settings, _careful_rate(job, number)),
            careful=True,
            parts=inside and fitting_views(job.data, student.multiplications, settings.augment) > 1,
        )
        careful.append(attempt)
    fitted = untrained.fitted and settings.careful is not False
    return careful if fitted or settings.batch_size < SMALLEST_SLICE else bold + careful


def _at(settings: Training, rate: float) -> Training:
    return settings.model_copy(update={"learning_rate": rate})


def _inside(settings: Training) -> Training:
    """Return ``settings`` where inner values are all that is learned from, to the end."""
    return _at(settings, settings.learning_rate * INSIDE).model_copy(update={"features_fade": 0.0})


def _careful_rate(job: Job, number: int) -> float:
    settings = job.recipe.training
    shorter = RATES[number] / RATES[CAREFUL_FROM]
    path = PATH * shorter / max(settings.steps(len(job.data)), 1)
    return max(settings.learning_rate * RATES[number], path)
