"""Prunable weights: found wherever a graph keeps them, described, and matched by name."""

from onnx_unipts.graph.prunable.finder import find_prunable
from onnx_unipts.graph.prunable.last_resort import with_last_resort
from onnx_unipts.graph.prunable.names import matching
from onnx_unipts.graph.prunable.operands import KINDS
from onnx_unipts.graph.prunable.weight import PrunableWeight

__all__ = [
    "KINDS",
    "PrunableWeight",
    "find_prunable",
    "matching",
    "with_last_resort",
]
