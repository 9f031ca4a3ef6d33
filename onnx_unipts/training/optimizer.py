"""Momentum SGD on a dict of arrays, with the decay of pruned weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["LONGEST", "MomentumSGD"]

# Gradients are at most so many times as long as the weights they belong to. ResNet-20 stays below
# nearly always; nets without normalisation, whose first steps would overshoot, do not.
LONGEST = 10.0


class MomentumSGD:
    """SGD with momentum and weight decay, the update of torch.optim.SGD; state by tensor name.

    Pruned weights decay further by ``pruned_decay`` (UniPTS, arXiv 2405.18810, section 3.2, after
    SR-STE, arXiv 2102.04010): what stays pruned shrinks, so that masks settle.
    """

    def __init__(self, momentum: float, weight_decay: float, pruned_decay: float) -> None:
        """Start with zero velocity."""
        self._momentum = np.float32(momentum)
        self._decay = np.float32(weight_decay)
        self._pruned_decay = np.float32(pruned_decay)
        self.velocity: dict[str, np.ndarray] = {}

    def step(
        self,
        tensors: dict[str, np.ndarray],
        gradients: Mapping[str, np.ndarray],
        masks: Mapping[str, np.ndarray],
        rate: float,
    ) -> None:
        """Update ``tensors`` in place; ``masks`` (bool) are False where a weight is pruned.

        All gradients are shortened by one factor where one is longer than `LONGEST` times its
        weight (after adaptive gradient clipping, Brock et al., arXiv 2102.06171).
        """
        factor = np.float32(min(1.0, LONGEST / max(_longest(tensors, gradients), LONGEST)))
        for name, gradient in gradients.items():
            tensor = tensors[name]
            change = factor * gradient + self._decay * tensor
            if name in masks:
                change += self._pruned_decay * np.where(masks[name], np.float32(0), tensor)
            velocity = self.velocity.setdefault(name, np.zeros_like(tensor))
            velocity *= self._momentum
            velocity += change
            tensor -= np.float32(rate) * velocity


def _longest(tensors: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]) -> float:
    """Return the largest ratio of a gradient's norm to its weight's, biases and scales aside.

    Theirs may be anything: a bias is often zero.
    """
    ratios = [
        float(np.linalg.norm(gradient) / max(np.linalg.norm(tensors[name]), 1e-12))
        for name, gradient in gradients.items()
        if gradient.ndim > 1
    ]
    return max((ratio for ratio in ratios if np.isfinite(ratio)), default=0.0)
