"""What a model believes about samples: class probabilities, and what they tell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnx_unipts.targets import log_softmax

__all__ = ["Belief"]

SHARPEST, SHARPENING_STEPS = 1e4, 30


@dataclass(frozen=True)
class Belief:
    """Logarithms of class probabilities, float64 (samples, ..., classes)."""

    logarithms: np.ndarray

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.logarithms.shape[-1])

    @property
    def answers(self) -> np.ndarray:
        """The top class, int64 (samples, ...)."""
        return self.logarithms.argmax(axis=-1)

    @property
    def entropy(self) -> np.ndarray:
        """The entropy of each sample in nats, float64 (samples,)."""
        each = -(np.exp(self.logarithms) * self.logarithms).sum(axis=-1)
        return each.reshape(len(each), -1).mean(axis=1)

    @property
    def information(self) -> np.ndarray:
        """What each answer tells: sure of itself and different from the others; float64 (samples,).

        Their mean is the mutual information of sample and class in nats (Krause, Perona and Gomes,
        Discriminative clustering by regularized information maximization, NIPS 2010). Entropy alone
        would favour a range that saturates the model.
        """
        probability = np.exp(self.logarithms)
        mean = probability.reshape(-1, self.classes).mean(axis=0)
        each = (probability * (self.logarithms - np.log(mean + 1e-30))).sum(axis=-1)
        return each.reshape(len(each), -1).mean(axis=1)

    def sharpened(self, entropy: float) -> Belief:
        """Return the belief at the temperature, of 1 at most, that has that mean entropy."""
        low, high = 1.0, SHARPEST
        if self.entropy.mean() <= entropy:
            return self
        for _ in range(SHARPENING_STEPS):
            middle = math.sqrt(low * high)
            if self._at(middle).entropy.mean() > entropy:
                low = middle
            else:
                high = middle
        return self._at(high)

    def _at(self, factor: float) -> Belief:
        return Belief(log_softmax(factor * self.logarithms))
