"""The weights under a mask that best give a layer's dense outputs."""

from __future__ import annotations

import numpy as np

__all__ = ["damped", "masked_least_squares"]

DAMPING = 0.01


def damped(moments: np.ndarray) -> np.ndarray:
    """Return ``moments`` (groups, K, K) plus a hundredth of their mean diagonal.

    As in SparseGPT (arXiv 2301.00774): inputs that never vary make them singular.
    """
    diagonal = np.einsum("gkk->gk", moments).mean(axis=1)
    step = DAMPING * np.maximum(diagonal, 1e-12)
    return moments + step[:, None, None] * np.eye(moments.shape[-1])


def masked_least_squares(
    matrix: np.ndarray, mask: np.ndarray, own: np.ndarray, cross: np.ndarray
) -> np.ndarray:
    """Return the V, zero where ``mask`` is False, that minimises the mean of |W x - V y|^2.

    ``matrix`` is W, (groups, outputs, K), as is ``mask`` (bool); ``own`` is mean(y y^T) and
    ``cross`` mean(x y^T), both (groups, K, K). Each output is a least squares problem over its kept
    inputs: where the optimal brain surgeon's updates end (ExactOBS, arXiv 2208.11580, section 4).
    A ridge of `damped` size pulls towards W. Float64.
    """
    wanted = np.matmul(matrix.astype(np.float64), cross)
    system = damped(own)
    ridge = system - own
    wanted += np.matmul(matrix.astype(np.float64), ridge)
    result = np.zeros(matrix.shape)
    for group, output in np.ndindex(*matrix.shape[:2]):
        kept = np.flatnonzero(mask[group, output])
        if len(kept):
            part = system[group][np.ix_(kept, kept)]
            result[group, output, kept] = np.linalg.solve(part, wanted[group, output, kept])
    return result
