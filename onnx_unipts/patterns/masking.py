"""The masks of a whole model: its pattern, applied to every weight by its layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnx_unipts.patterns.pattern import Layout, Pattern, keep_largest
from onnx_unipts.patterns.unstructured import Unstructured

__all__ = ["Masking", "Scores", "magnitude_mask", "magnitude_scores"]

# (name of a weight, its values) -> how important each is, floats of the same shape
Scores = Callable[[str, np.ndarray], np.ndarray]


def magnitude_scores(name: str, tensor: np.ndarray) -> np.ndarray:
    """Return the magnitude of each weight."""
    return np.abs(tensor)


@dataclass(frozen=True)
class Masking:
    """How masks are made: ``pattern``, the ``layouts`` of the weights by name, and ``scores``."""

    pattern: Pattern = field(default_factory=Unstructured)
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    scores: Scores = magnitude_scores

    def mask(self, name: str, tensor: np.ndarray, kept: int) -> np.ndarray:
        """Return the mask (bool) of the weights of ``tensor`` that stay, by their scores."""
        return self.by_scores(name, self.scored(name, tensor), kept)

    def scored(self, name: str, tensor: np.ndarray) -> np.ndarray:
        """Return the scores of ``tensor``: zeros come last, unless they share a block with others.

        What is zero already must not stay in place of another weight.
        """
        scores = self.scores(name, tensor)
        if self.scores is magnitude_scores or self.pattern.step > 1:
            return scores
        least = scores.min(initial=0)
        return np.where(tensor == 0, least - abs(least) - 1, scores)

    def by_scores(self, name: str, scores: np.ndarray, kept: int) -> np.ndarray:
        """Return the mask (bool) of the weights that stay by given ``scores``."""
        return self.pattern.mask(scores, kept, self._layout(name))

    def candidate(
        self, tensors: Mapping[str, np.ndarray], kept: Mapping[str, int]
    ) -> dict[str, np.ndarray]:
        """Return the tensors that change, pruned, where all but ``kept`` goes."""
        return {n: tensors[n] * self.mask(n, tensors[n], count) for n, count in kept.items()}

    def limit(self, name: str, tensor: np.ndarray) -> int:
        """Return the largest count that can be kept without keeping a zero of ``tensor``."""
        return self.pattern.limit(tensor, self._layout(name))

    def pooled(self, name: str, scores: np.ndarray) -> np.ndarray:
        """Return ``scores`` with those of weights that stay or go together made equal."""
        return self.pattern.pooled(scores, self._layout(name))

    def violation(self, name: str, tensor: np.ndarray) -> str:
        """Return how the zeros of ``tensor`` break the pattern; empty where they keep to it."""
        return self.pattern.violation(tensor, self._layout(name))

    def rounded(
        self, kept: Mapping[str, int], weights: Mapping[str, np.ndarray], limits: Mapping[str, int]
    ) -> dict[str, int]:
        """Return ``kept`` in counts that the pattern allows, and in sum not above its own.

        Counts are rounded down, but a layer that is to keep anything keeps its first block. What is
        left over goes, block by block, to the layers that lost most, so that the sum is less than
        the largest block below that of ``kept``, or every layer at its limit.
        """
        counts = {
            name: self.pattern.counts(weight.shape, self._layout(name))
            for name, weight in weights.items()
        }
        allowed = {
            name: c[: np.searchsorted(c, limits[name], side="right")]
            for name, c in counts.items()
            if c is not None
        }
        if not allowed:
            return dict(kept)
        places = {name: _place(c, kept[name]) for name, c in allowed.items()}
        spare = sum(kept[name] - int(c[places[name]]) for name, c in allowed.items())
        while spare < 0:
            largest = max(allowed, key=lambda name: int(allowed[name][places[name]]))
            places[largest] -= 1
            spare += int(np.diff(allowed[largest])[places[largest]])
        _hand_out(spare, kept, allowed, places)
        return {name: int(c[places[name]]) for name, c in allowed.items()}

    def _layout(self, name: str) -> Layout:
        return self.layouts.get(name, Layout())


def magnitude_mask(weight: np.ndarray, kept: int) -> np.ndarray:
    """Return the unstructured mask (bool) of the ``kept`` weights of largest magnitude."""
    return keep_largest(np.abs(weight), kept)


def _place(counts: np.ndarray, kept: int) -> int:
    below = int(np.searchsorted(counts, kept, side="right")) - 1
    return min(max(below, 1 if kept else 0), len(counts) - 1)


def _hand_out(
    spare: int, kept: Mapping[str, int], allowed: Mapping[str, np.ndarray], places: dict[str, int]
) -> None:
    """Add single blocks while one fits into ``spare``, where most is missing first; in place."""
    while True:
        steps = {
            name: int(c[places[name] + 1] - c[places[name]])
            for name, c in allowed.items()
            if places[name] + 1 < len(c)
        }
        fitting = [name for name, step in steps.items() if step <= spare]
        if not fitting:
            return
        poorest = max(fitting, key=lambda name: kept[name] - int(allowed[name][places[name]]))
        places[poorest] += 1
        spare -= steps[poorest]
