"""Thresholds per layer that train with the weights, under one global sparsity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.training.recovery import RECOVERIES, Recovery, Tensors, kept_at

# Half the width of the window around a threshold, relative to it, that densities come from.
WINDOW = 0.2


@RECOVERIES.register("learned-thresholds")
class LearnedThresholds(Recovery):
    """How many weights each layer keeps is learned: FCPTS (Gong et al., arXiv 2405.05808).

    Weights above the threshold of their layer stay. Raising a threshold removes the weights just
    above it: the loss changes by minus gradient times weight of these, the sparsity by their
    number, both estimated from a window around the threshold (the paper estimates the density of
    the sparsity by a histogram). Where the paper holds the global sparsity by a penalty, here a
    common factor on all thresholds holds it exactly at every step, and the gradient is the one
    along that constraint, relative to its largest entry. Thresholds train by their logarithm; they
    start from the allocation. A pattern that prescribes its sparsity leaves nothing to learn.
    """

    allocates = True

    def begin(self, tensors: dict[str, np.ndarray]) -> None:
        """Set each threshold to the smallest score that the allocation keeps."""
        for name, kept in self.kept.items():
            if threshold_of(name) in tensors:
                continue
            scores = np.sort(self._scores(name, tensors[name]).reshape(-1))
            edge = scores[min(len(scores) - kept, len(scores) - 1)]
            logarithm = np.log(max(float(edge), 1e-12))
            tensors[threshold_of(name)] = np.full(1, logarithm, np.float32)

    def masks(self, tensors: Tensors, share: float = 1.0) -> dict[str, np.ndarray]:
        """Return the masks (bool) of the weights that exceed their thresholds most."""
        counts = self._counts(tensors, share)
        return {name: self.masking.mask(name, tensors[name], counts[name]) for name in self.kept}

    def updates(
        self, tensors: Tensors, gradients: Tensors, masks: Tensors
    ) -> Mapping[str, np.ndarray]:
        """Return the gradients by weights, and those by thresholds along the constraint."""
        losses, densities = {}, {}
        for name in self.kept:
            if name not in gradients:
                continue
            scores = self._scores(name, tensors[name])
            edge = scores[masks[name]].min(initial=np.inf)
            near = np.abs(scores - edge) < WINDOW * edge
            losses[name] = -float((gradients[name] * tensors[name])[near].sum())
            densities[name] = float(near.sum())
        total = sum(densities.values())
        if total == 0:
            return gradients
        multiplier = sum(losses.values()) / total
        along = {name: losses[name] - multiplier * densities[name] for name in losses}
        largest = max(abs(value) for value in along.values()) or 1.0
        own = {threshold_of(n): np.full(1, v / largest, np.float32) for n, v in along.items()}
        return {**gradients, **own}

    def settle(self, tensors: Tensors) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Return the trained tensors with the counts that the thresholds came to."""
        counts = self._counts(tensors, 1.0)
        settled, _ = super().settle(tensors)
        return settled, counts

    def _counts(self, tensors: Tensors, share: float) -> dict[str, int]:
        """Return how many weights exceed their thresholds, by the factor that hits the total."""
        names = list(self.kept)
        if self.masking.pattern.fixed_sparsity is not None:
            return {name: kept_at(self.kept[name], tensors[name].size, share) for name in names}
        sizes = [tensors[name].size for name in names]
        total = kept_at(sum(self.kept.values()), sum(sizes), share)
        relative = np.concatenate(
            [
                np.log(np.maximum(self._scores(n, tensors[n]).reshape(-1), 1e-30))
                - tensors[threshold_of(n)]
                for n in names
            ]
        )
        cut = len(relative) - total
        best = np.argpartition(relative, max(cut - 1, 0))[cut:]
        layers = np.searchsorted(np.cumsum(sizes), best, side="right")
        counts = np.bincount(layers, minlength=len(names))
        wanted = dict(zip(names, map(int, counts), strict=True))
        return self._allowed(wanted, tensors, total)

    def _allowed(self, wanted: dict[str, int], tensors: Tensors, total: int) -> dict[str, int]:
        """Let no layer vanish, and round to what the pattern allows."""
        if total >= len(wanted):
            for empty in [name for name, count in wanted.items() if count == 0]:
                richest = max(wanted, key=lambda name: wanted[name])
                wanted[richest] -= 1
                wanted[empty] = 1
        weights = {name: tensors[name] for name in wanted}
        return self.masking.rounded(wanted, weights, {n: w.size for n, w in weights.items()})

    def _scores(self, name: str, tensor: np.ndarray) -> np.ndarray:
        return self.masking.pooled(name, self.masking.scores(name, tensor))


def threshold_of(name: str) -> str:
    """Return the name under which the logarithm of a layer's threshold is kept."""
    return f"{name}/threshold"
