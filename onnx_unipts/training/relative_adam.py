"""Adam whose steps are relative to the weights: for models that a step too long destroys."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["RelativeAdam"]

MOMENTUM = np.float32(0.9)
SQUARE_MOMENTUM = np.float32(0.99)
SMALLEST = np.float32(1e-12)


class RelativeAdam:
    """Adam (Kingma and Ba, arXiv 1412.6980) with steps of ``rate`` times the weights' magnitude.

    The magnitude is the root mean square of the kept weights of a tensor, so that one rate suits
    layers of any scale, with normalisations behind them or without (after Adafactor's relative
    steps, Shazeer and Stern, arXiv 1804.04235, section 8). What is pruned stays.
    """

    def __init__(self) -> None:
        """Start with zero moments."""
        self.velocity: dict[str, np.ndarray] = {}

    def step(
        self,
        tensors: dict[str, np.ndarray],
        gradients: Mapping[str, np.ndarray],
        masks: Mapping[str, np.ndarray],
        rate: float,
    ) -> None:
        """Update ``tensors`` in place; ``masks`` (bool) are False where a weight is pruned."""
        steps = self._moment("", np.zeros(()))
        steps += 1
        first, second = (1 - float(m) ** float(steps) for m in (MOMENTUM, SQUARE_MOMENTUM))
        for name, whole in gradients.items():
            tensor, mask = tensors[name], masks.get(name)
            gradient = whole if mask is None else np.where(mask, whole, np.float32(0))
            mean = self._moment(name, tensor)
            square = self._moment(f"{name}/square", tensor)
            mean += (1 - MOMENTUM) * (gradient - mean)
            square += (1 - SQUARE_MOMENTUM) * (gradient * gradient - square)
            direction = (mean / first) / (np.sqrt(square / second) + SMALLEST)
            kept = tensor if mask is None else tensor[mask]
            magnitude = np.sqrt(np.mean(np.square(kept, dtype=np.float64))) if kept.size else 0.0
            tensor -= np.float32(rate * magnitude) * direction.astype(np.float32)

    def _moment(self, name: str, like: np.ndarray) -> np.ndarray:
        return self.velocity.setdefault(name, np.zeros_like(like))
