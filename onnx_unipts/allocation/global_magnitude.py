"""Global magnitude allocation: one threshold for the whole model."""

import numpy as np

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import ALLOCATORS, Problem
from onnx_unipts.allocation.selection import keep_best


@ALLOCATORS.register("global")
def global_magnitude(problem: Problem) -> Kept:
    """Keep the weights of largest magnitude of the whole model, at least one per layer."""
    return keep_best(problem, {n: np.abs(w, dtype=np.float64) for n, w in problem.weights.items()})
