"""Erdos-Renyi-Kernel allocation: density falls with the size of a layer."""

import numpy as np

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import ALLOCATORS, Problem


@ALLOCATORS.register("erk")
def erk(problem: Problem) -> Kept:
    """Density in proportion to sum(shape) / prod(shape) (Evci et al., RigL, arXiv 1911.11134)."""
    wanted = {name: float(np.sum(weight.shape)) for name, weight in problem.weights.items()}
    return problem.distribute(wanted)
