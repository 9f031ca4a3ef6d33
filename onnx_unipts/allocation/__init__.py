"""Allocation: how many weights each layer keeps. One allocator per file, chosen by name."""

from onnx_unipts.allocation.problem import ALLOCATORS, Problem, distribute

__all__ = ["ALLOCATORS", "Problem", "distribute"]
