"""Allocation: how many weights each layer keeps. One allocator per file, chosen by name."""

from onnx_unipts.allocation.problem import (
    ALLOCATORS,
    SEARCHES,
    Problem,
    analytic_allocator,
    distribute,
    register_search,
    whole_model_allocators,
)

__all__ = [
    "ALLOCATORS",
    "SEARCHES",
    "Problem",
    "analytic_allocator",
    "distribute",
    "register_search",
    "whole_model_allocators",
]
