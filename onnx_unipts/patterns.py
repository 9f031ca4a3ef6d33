"""Sparsity patterns: which weights of a tensor stay, given their scores and how many may."""

from __future__ import annotations

import numpy as np

__all__ = ["magnitude_mask", "unstructured"]


def unstructured(scores: np.ndarray, kept: int) -> np.ndarray:
    """Return the mask (bool, shape of ``scores``) of the ``kept`` largest scores.

    Exactly ``kept`` weights stay, wherever they are; of equal scores any may be chosen, always the
    same ones for the same scores.
    """
    mask = np.ones(scores.shape, dtype=bool)
    removed = scores.size - kept
    if removed > 0:
        smallest = np.argpartition(scores.reshape(-1), removed - 1)[:removed]
        mask.reshape(-1)[smallest] = False
    return mask


def magnitude_mask(weight: np.ndarray, kept: int) -> np.ndarray:
    """Return the mask (bool) of the ``kept`` weights of largest magnitude."""
    return unstructured(np.abs(weight), kept)
