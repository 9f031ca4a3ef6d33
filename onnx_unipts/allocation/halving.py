"""Successive halving: only what does well on few samples is scored on more.

After Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", arXiv 1502.07943: each stage scores the better half of those before on as many
samples again as all earlier stages together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from onnx_unipts.allocation.kept import Kept, Scorer

__all__ = ["Score", "Stage", "halve", "stage_ends"]


class Score(NamedTuple):
    """The mean fitness over ``samples``. More samples outrank fitness: who got them was better."""

    samples: int
    fitness: float


@dataclass(frozen=True)
class Stage:
    """``score`` gives the mean fitness on ``samples`` that no other stage has."""

    score: Scorer
    samples: int


def stage_ends(parts: int) -> list[int]:
    """Return after how many of ``parts`` equal parts of the samples each stage ends: 1, 2, 4, …"""
    ends = [1]
    while ends[-1] < parts:
        ends.append(min(2 * ends[-1], parts))
    return ends


def halve(stages: Sequence[Stage], candidates: Sequence[Kept]) -> list[Score]:
    """Return the score of each candidate; the better half of every stage enters the next."""
    scores = [Score(0, 0.0)] * len(candidates)
    alive = list(range(len(candidates)))
    for stage in stages:
        fresh = stage.score([candidates[i] for i in alive])
        for i, fitness in zip(alive, fresh, strict=True):
            samples = scores[i].samples + stage.samples
            total = scores[i].fitness * scores[i].samples + fitness * stage.samples
            scores[i] = Score(samples, total / samples)
        alive.sort(key=lambda i: -scores[i].fitness)
        alive = alive[: -(-len(alive) // 2)]
    return scores
