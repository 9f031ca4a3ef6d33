"""The layer that scores classes, trained on samples moved to every class."""

from __future__ import annotations

import numpy as np

from onnx_unipts.training.relative_adam import RelativeAdam

__all__ = ["is_too_large", "trained_on_moved"]

STEPS = 250
BATCH = 256
RATE = 0.0175
# Of a batch, the share that moves; the others stay samples as they are.
MOVED = 0.8
# Weights, or scores of a batch, at most: about a minute on one core.
MOST = 1 << 22


def is_too_large(matrix: np.ndarray) -> bool:
    """Tell whether training the layer of ``matrix`` (classes, K) takes too long."""
    return max(matrix.size, BATCH * len(matrix)) > MOST


def trained_on_moved(
    matrix: np.ndarray,
    bias: np.ndarray,
    means: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    added: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``weights`` (classes, K) and ``added`` (classes,) trained to give the dense scores.

    ``matrix`` (classes, K) and ``bias`` (classes,) make these of ``x`` (rows, K), what enters the
    layer in the dense model; ``y`` (rows, K) enters in the student. Rows of ``means`` (classes, K)
    are where inputs of each class lie, as `class_means` gives them: a sample less the mean of its
    class plus that of another is a sample of the other, in the dense model and, taken to move
    alike, in the student. So every class is trained on, also those of which no sample was seen.
    Least Kullback-Leibler divergence by `RelativeAdam`; zeros of ``weights`` stay, and so does the
    mean of all scores, which that divergence does not see. Float64.
    """
    matrix, bias, means, x, y = (a.astype(np.float32) for a in (matrix, bias, means, x, y))
    own = (x @ matrix.T + bias).argmax(axis=1)
    student = {"weights": weights.astype(np.float32), "added": added.astype(np.float32)}
    masks = {"weights": weights != 0}
    optimizer, rng = RelativeAdam(), np.random.default_rng(0)
    for step in range(STEPS):
        rows = rng.integers(len(x), size=BATCH)
        to = np.where(rng.random(BATCH) < MOVED, rng.integers(len(matrix), size=BATCH), own[rows])
        way = means[to] - means[own[rows]]
        entering = y[rows] + way
        wanted = _softmax((x[rows] + way) @ matrix.T + bias)
        given = _softmax(entering @ student["weights"].T + student["added"])
        by_scores = (given - wanted) / BATCH
        gradients = {"weights": by_scores.T @ entering, "added": by_scores.sum(axis=0)}
        rate = RATE * (1 + np.cos(np.pi * step / STEPS)) / 2
        optimizer.step(student, gradients, masks, rate)
    trained, moved = (student[name].astype(np.float64) for name in ("weights", "added"))
    lacking = (x @ matrix.T + bias).mean() - (y @ trained.T + moved).mean()
    return trained, moved + lacking


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
