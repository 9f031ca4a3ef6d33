"""Allocation: how many weights each layer keeps. One allocator per file, chosen by name."""

from onnx_unipts.allocation.problem import (
    ALLOCATORS,
    SEARCHES,
    Problem,
    analytic_allocator,
    distribute,
)

__all__ = ["ALLOCATORS", "SEARCHES", "Problem", "analytic_allocator", "distribute"]
