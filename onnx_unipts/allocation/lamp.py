"""LAMP allocation: magnitude relative to what survives in the same layer."""

import numpy as np

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import ALLOCATORS, Problem
from onnx_unipts.allocation.selection import keep_best


@ALLOCATORS.register("lamp")
def lamp(problem: Problem) -> Kept:
    """Keep the weights of largest w^2 / (sum of u^2 over the layer's weights |u| >= |w|).

    Layer-adaptive magnitude-based pruning (Lee et al., ICLR 2021, arXiv 2010.07611), equation 4.
    """
    return keep_best(problem, {name: _scores(w) for name, w in problem.weights.items()})


def _scores(weight: np.ndarray) -> np.ndarray:
    squares = np.square(weight.astype(np.float64)).reshape(-1)
    order = np.argsort(squares, kind="stable")
    surviving = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(surviving, np.finfo(np.float64).tiny)
    return scores.reshape(weight.shape)
