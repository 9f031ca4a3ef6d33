"""How far the sparse model is from the dense one, by target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_unipts.targets.scores import log_sigmoid, log_softmax
from onnx_unipts.targets.target import Target

__all__ = ["divergence", "total_divergence"]


def divergence(target: Target, dense: np.ndarray, sparse: np.ndarray) -> float:
    """Return the mean divergence of ``sparse`` from ``dense``, both of the target's shape.

    For classes and probabilities the Kullback-Leibler divergence in nats, for values the mean
    squared error divided by the variance of ``dense``. Not finite outputs count as infinitely far.
    """
    dense, sparse = dense.astype(np.float64), sparse.astype(np.float64)
    if target.kind == "classes":
        return _divergence_of_classes(dense, sparse, target.axis)
    if not (np.isfinite(dense).all() and np.isfinite(sparse).all()):
        return float("inf")
    if target.kind == "probability":
        # With p log(p/q) + (1-p) log((1-p)/(1-q)) and log sigmoid(-z) = log sigmoid(z) - z.
        log_dense, log_sparse = log_sigmoid(dense), log_sigmoid(sparse)
        return float((log_dense - log_sparse + np.expm1(log_dense) * (dense - sparse)).mean())
    return float(np.square(dense - sparse).mean() / max(float(dense.var()), 1e-12))


def _divergence_of_classes(dense: np.ndarray, sparse: np.ndarray, axis: int) -> float:
    """Return the divergence of scores; a class that the dense model rules out, at -inf, is none."""
    with np.errstate(invalid="ignore"):
        log_dense, log_sparse = log_softmax(dense, axis), log_softmax(sparse, axis)
        share = np.exp(log_dense)
        terms = np.where(share == 0, 0.0, share * (log_dense - log_sparse))
    found = float(terms.sum(axis=axis).mean())
    return float("inf") if np.isnan(found) else found


def total_divergence(
    targets: Sequence[Target], dense: Mapping[str, np.ndarray], sparse: Mapping[str, np.ndarray]
) -> float:
    """Return the sum of the targets' divergences; the arrays are given by value name."""
    return sum(divergence(t, dense[t.value], sparse[t.value]) for t in targets)
