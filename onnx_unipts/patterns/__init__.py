"""Sparsity patterns: which weights of a tensor may be zero together. One pattern per file."""

from onnx_unipts.patterns.masking import Masking, magnitude_mask
from onnx_unipts.patterns.pattern import (
    PATTERNS,
    Layout,
    Pattern,
    keep_largest,
    parse_pattern,
    require_free_sparsity,
    target_sparsity,
)

__all__ = [
    "PATTERNS",
    "Layout",
    "Masking",
    "Pattern",
    "keep_largest",
    "magnitude_mask",
    "parse_pattern",
    "require_free_sparsity",
    "target_sparsity",
]
