"""Allocation by a score per weight: the best scores of the whole model stay."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import Problem


def keep_best(problem: Problem, scores: Mapping[str, np.ndarray]) -> Kept:
    """Count per layer how many of the ``problem.total`` best ``scores`` fall into it.

    ``scores`` holds one array of non-negative float64 per layer, of the layer's size.
    """
    pooled = [problem.masking.pooled(name, scores[name]) for name in problem.weights]
    everything = np.concatenate([values.reshape(-1) for values in pooled])
    cut = everything.size - problem.total
    best = np.argpartition(everything, max(cut - 1, 0))[cut:]
    ends = np.cumsum([problem.weights[name].size for name in problem.weights])
    layers = np.bincount(np.searchsorted(ends, best, side="right"), minlength=len(ends))
    wanted = dict(zip(problem.weights, layers.astype(float), strict=True))
    return problem.distribute(wanted)
