"""Which weights of a layer stay, chosen together with what they become."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_unipts.reconstruction.least_squares import Moments, Prior, normal_equations
from onnx_unipts.reconstruction.linear_layer import linear_layers
from onnx_unipts.student import Student

__all__ = ["Choice", "chosen_support", "is_too_large", "unsearched_layers"]

# Scores (groups, outputs, K) -> the mask (bool) of those that stay, as the pattern allows it.
Choice = Callable[[np.ndarray], np.ndarray]

# Inputs of a layer, and weights times inputs, at most: ten seconds on two cores.
MOST_INPUTS = 1536
MOST_WORK = 1 << 31
# The penalty starts where a layer may leave its mask freely and ends where nothing moves any more.
ITERATIONS = 60
FIRST_PENALTY = 0.03
GROWTH = 1.1


def chosen_support(
    matrix: np.ndarray, mask: np.ndarray, moments: Moments, prior: Prior, choice: Choice
) -> np.ndarray:
    """Return a mask (bool) under which `masked_least_squares` comes near to W x.

    ``matrix`` is W, (groups, outputs, K); ``mask`` is where the search begins. By the alternating
    direction method of multipliers with a growing penalty (ALPS, Meng et al., arXiv 2406.07831,
    section 3): weights fitted freely, and weights that keep to ``choice``, drawn to each other.
    Inputs are scaled to vary alike. Layers too large, and inputs that are not finite, leave
    ``mask`` as it is.
    """
    if is_too_large(matrix.size, matrix.shape[-1]) or mask.all():
        return mask
    system, wanted = normal_equations(matrix, moments, prior)
    if not np.isfinite(system).all():
        return mask
    scale = np.sqrt(np.einsum("gkk->gk", system))
    values, vectors = np.linalg.eigh(system / (scale[:, :, None] * scale[:, None, :]))
    values, vectors = (array.astype(np.float32) for array in (values, vectors))
    wanted = (wanted / scale[:, None, :]).astype(np.float32)
    sparse = np.where(mask, matrix * scale[:, None, :], 0.0).astype(np.float32)
    duals, penalty = np.zeros_like(sparse), np.float32(FIRST_PENALTY)
    for _ in range(ITERATIONS):
        turned = np.matmul(wanted - duals + penalty * sparse, vectors)
        turned /= np.maximum(values, 0)[:, None, :] + penalty
        free = np.matmul(turned, vectors.swapaxes(1, 2))
        drawn = free + duals / penalty
        mask = choice(np.square(drawn))
        sparse = np.where(mask, drawn, np.float32(0))
        duals += penalty * (free - sparse)
        penalty *= np.float32(GROWTH)
    return mask


def is_too_large(weights: int, inputs: int) -> bool:
    """Tell whether a layer of so many ``weights``, and ``inputs`` to each output, is too large."""
    return inputs > MOST_INPUTS or weights * inputs > MOST_WORK


def unsearched_layers(student: Student) -> list[str]:
    """Return the layers of ``student`` that are too large for `chosen_support`."""
    dense, layers = student.dense, linear_layers(student)
    inputs = {name: layer.matrix(dense[name]).shape[-1] for name, layer in layers.items()}
    return [name for name in layers if is_too_large(dense[name].size, inputs[name])]
