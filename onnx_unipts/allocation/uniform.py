"""Uniform allocation: every layer has the same sparsity."""

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import ALLOCATORS, Problem


@ALLOCATORS.register("uniform")
def uniform(problem: Problem) -> Kept:
    """Keep the same share of every layer."""
    return problem.distribute(problem.counts)
