"""The allocation problem that every allocator solves, and the rounding that hits its total."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Protocol

import numpy as np

from onnx_unipts.allocation.halving import Stage
from onnx_unipts.allocation.kept import Kept, Scorer
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.registry import Registry
from onnx_unipts.patterns import Masking
from onnx_unipts.progress import Progress, Quiet
from onnx_unipts.recipe import Search

__all__ = [
    "ALLOCATORS",
    "SEARCHES",
    "Allocator",
    "History",
    "LayerScorer",
    "Problem",
    "Scoring",
    "analytic_allocator",
    "distribute",
    "register_search",
    "whole_model_allocators",
]


class LayerScorer(Protocol):
    """Scores one layer that is pruned to several levels and fitted, all others dense."""

    @property
    def samples(self) -> int:
        """Number of samples that score."""

    def __call__(self, name: str, levels: Sequence[int]) -> list[float]:
        """Return the fitness of each of ``levels``, larger is better."""


class History:
    """What a search has finished so far, by generation. This one forgets when the process ends."""

    def __init__(self) -> None:
        """Start empty."""
        self.generations: list[dict] = []

    def append(self, generation: dict) -> None:
        """Remember one finished generation: a dict that JSON can hold."""
        self.generations.append(generation)


@dataclass(frozen=True)
class Problem:
    """Distribute ``total`` kept weights over layers.

    ``weights`` are the dense tensors by name; ``kept`` never exceeds a layer's number of non-zero
    weights, or what the pattern of ``masking`` leaves of them. ``score`` (fitness of allocations,
    larger is better), ``layer_score`` (that of one layer pruned and fitted, all others dense),
    ``search``, ``history`` and ``progress`` serve the allocators that search.
    ``stages`` score on ever more samples, for successive halving; none of them, on all at once.
    ``prescribed_total`` is given instead of what the sparsity says, where other layers are held.
    ``minimum`` is the least share of each layer to keep, ``levels`` the number of sparsities at
    which a layer's sensitivity is measured.
    """

    weights: Mapping[str, np.ndarray]
    sparsity: float
    seed: int = 0
    search: Search = field(default_factory=Search)
    score: Scorer | None = None
    history: History | None = None
    progress: Progress = field(default_factory=Quiet)
    masking: Masking = field(default_factory=Masking)
    prescribed_total: int | None = None
    minimum: float = 0.0
    levels: int = 8
    stages: Sequence[Stage] = ()
    layer_score: LayerScorer | None = None

    @property
    def samples(self) -> int:
        """Number of samples that ``score`` scores on, where the stages tell."""
        return sum(stage.samples for stage in self.stages)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of weights of each layer."""
        return {name: weight.size for name, weight in self.weights.items()}

    @cached_property
    def limits(self) -> dict[str, int]:
        """Largest number each layer can keep: what is zero already cannot be kept."""
        return {name: self.masking.limit(name, w) for name, w in self.weights.items()}

    @cached_property
    def total(self) -> int:
        """Number of weights kept in all.

        The others are floor(sparsity * N), or more where the dense model has more zeros than that.
        A pattern that prescribes its sparsity keeps as much as it can.
        """
        if self.prescribed_total is not None:
            return self.prescribed_total
        if self.masking.pattern.fixed_sparsity is not None:
            return sum(self.limits.values())
        count = sum(self.counts.values())
        return min(count - zeros_for(self.sparsity, count), sum(self.limits.values()))

    @cached_property
    def floors(self) -> dict[str, int]:
        """Least number that each layer keeps: the minimum, or what the total and limits allow."""
        share = min(self.minimum, self.total / max(sum(self.counts.values()), 1))
        return {
            name: min(int(share * self.counts[name]), self.limits[name]) for name in self.counts
        }

    def distribute(self, wanted: Mapping[str, float]) -> Kept:
        """Round ``wanted`` shares to a solution, see `distribute`."""
        return distribute(wanted, self.limits, self.total, self.floors)


Allocator = Callable[[Problem], Kept]

ALLOCATORS: Registry[Allocator] = Registry("allocator", "onnx_unipts.allocation")


@dataclass(frozen=True)
class Scoring:
    """What an allocator has scored.

    Attributes:
        candidates: how many candidates of a problem are scored, at most; the problem may hold
            stand-ins of the right shapes instead of weights, and nothing that scores.
        layer_by_layer: whether these are single layers (`Problem.layer_score`) and not whole
            allocations (`Problem.score`). A pattern of the whole model has no masks for that.
    """

    candidates: Callable[[Problem], int]
    layer_by_layer: bool = False


# Those of them that ask for the score of candidates.
SEARCHES: Registry[Scoring] = Registry("search", "onnx_unipts.allocation")


def register_search(
    name: str, candidates: Callable[[Problem], int], layer_by_layer: bool = False
) -> Callable[[Allocator], Allocator]:
    """Return the decorator that files an allocator which scores candidates, see `Scoring`."""

    def decorate(allocator: Allocator) -> Allocator:
        SEARCHES.register(name)(Scoring(candidates, layer_by_layer))
        return ALLOCATORS.register(name)(allocator)

    return decorate


def whole_model_allocators() -> list[str]:
    """Return the allocators that a pattern of the whole model can use: they mask no layer alone."""
    return [n for n in ALLOCATORS if n not in SEARCHES or not SEARCHES[n].layer_by_layer]


def analytic_allocator(name: str) -> Allocator:
    """Return the allocator called ``name``, which scores nothing.

    Raises `UsageError` for an unknown one and for a search.
    """
    if name in SEARCHES:
        analytic = ", ".join(known for known in ALLOCATORS if known not in SEARCHES)
        raise UsageError(
            f"allocation {name!r} is a search and no start of one; give some of {analytic}"
        )
    return ALLOCATORS[name]


def zeros_for(sparsity: float, count: int) -> int:
    """Return floor(sparsity * count), exact for the decimal that ``sparsity`` is written as."""
    return math.floor(Fraction(repr(float(sparsity))) * count)


def distribute(
    wanted: Mapping[str, float],
    limits: Mapping[str, int],
    total: int,
    floors: Mapping[str, int] | None = None,
) -> Kept:
    """Round ``wanted`` shares to integers that sum to ``total``, none above its limit.

    The shares are scaled to the total; what exceeds a limit goes to the others in proportion. Every
    layer keeps at least one weight where ``total`` allows it, and what ``floors`` (none above its
    limit) asks for, in proportion less where that is more than the total. Rounding is by largest
    remainder.
    """
    names = list(wanted)
    upper = np.array([limits[name] for name in names], dtype=np.float64)
    if total > upper.sum():
        raise UsageError(f"cannot keep {total} weights of {int(upper.sum())}")
    share = np.maximum(np.array([wanted[name] for name in names], dtype=np.float64), 1e-12)
    lower = np.minimum(1.0, upper) if total >= np.count_nonzero(upper) else np.zeros(len(names))
    if floors is not None:
        least = np.array([floors[name] for name in names], dtype=np.float64)
        more = np.maximum(least - lower, 0.0)
        afforded = min(1.0, (total - lower.sum()) / max(more.sum(), 1.0))
        lower = lower + np.floor(more * afforded + 1e-9)
    real = _scaled(share, lower, upper, float(total))
    whole = np.floor(real + 1e-9)
    missing = total - int(whole.sum())
    room = whole < upper
    order = np.argsort(np.where(room, whole - real, np.inf), kind="stable")
    whole[order[:missing]] += 1
    return {name: int(value) for name, value in zip(names, whole, strict=True)}


def _scaled(share: np.ndarray, lower: np.ndarray, upper: np.ndarray, total: float) -> np.ndarray:
    """Return clip(factor * share, lower, upper) that sums to ``total``, by bisection."""
    low, high = 0.0, 1.0
    while np.clip(high * share, lower, upper).sum() < total and high < 1e30:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(middle * share, lower, upper).sum() < total:
            low = middle
        else:
            high = middle
    return np.clip(high * share, lower, upper)
