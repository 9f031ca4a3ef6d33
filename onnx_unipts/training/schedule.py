"""Schedules over the steps of a training run: learning rate and sparsity."""

from __future__ import annotations

import math

__all__ = ["feature_share", "learning_rate", "sparsity_share"]


def learning_rate(
    peak: float, step: int, steps: int, warmup: float, cosine_power: float = 1.0
) -> float:
    """Return the rate at ``step`` of ``steps``: linear up over ``warmup * steps``, cosine to 0.

    The half cosine is taken to the ``cosine_power``: below 1 the rate stays high for longer.
    """
    rise = min(1.0, (step + 1) / (warmup * steps)) if warmup > 0 else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    return float(peak * rise * fall**cosine_power)


def sparsity_share(step: int, steps: int, ramp: float) -> float:
    """Return the share of the final sparsity at ``step``: cubic from 0 to 1 over ``ramp * steps``.

    Zhu and Gupta (arXiv 1710.01878), equation 1.
    """
    if ramp <= 0:
        return 1.0
    return 1.0 - (1.0 - min(1.0, step / (ramp * steps))) ** 3


def feature_share(step: int, steps: int, fade: float) -> float:
    """Return the share of their weight that inner activations have in the loss at ``step``.

    A half cosine from 1 to 0 over ``fade * steps``: first the layers find back to what they
    computed, then the outputs alone decide.
    """
    if fade <= 0:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / (fade * steps))))
