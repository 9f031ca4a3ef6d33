"""Scores and probabilities, as float arrays."""

from __future__ import annotations

import numpy as np

__all__ = ["log_sigmoid", "log_softmax", "probability", "softmax"]


def log_softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the logarithm of the softmax of ``scores`` along ``axis``, same shape and dtype."""
    shifted = scores - scores.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the softmax of ``scores`` along ``axis``, same shape and dtype."""
    return np.exp(log_softmax(scores, axis))


def log_sigmoid(scores: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sigmoid of ``scores``, same shape and dtype."""
    return np.minimum(scores, 0) - np.log1p(np.exp(-np.abs(scores)))


def probability(values: np.ndarray) -> np.ndarray:
    """Return ``values`` as float64 from above zero to one, so that they have a logarithm."""
    return np.clip(values.astype(np.float64), 1e-12, 1.0)
