"""The unstructured pattern: any weight may be zero."""

from __future__ import annotations

import numpy as np

from onnx_unipts.patterns.pattern import PATTERNS, Layout, Pattern, keep_largest

__all__ = ["Unstructured"]


class Unstructured(Pattern):
    """Any weight may be zero: smallest files, faster only in runtimes with sparse kernels."""

    name = "unstructured"
    gain = (
        "single zeros make the file smaller for every runtime and faster only those with kernels "
        "for them (XNNPACK in 1x1 convolutions), which stock onnxruntime has not"
    )
    survives_removal = True

    def mask(self, scores: np.ndarray, kept: int, layout: Layout) -> np.ndarray:
        """Keep exactly the ``kept`` largest scores, wherever they are."""
        return keep_largest(scores, kept)

    def violation(self, tensor: np.ndarray, layout: Layout) -> str:
        """Nothing breaks this pattern."""
        return ""


@PATTERNS.register("unstructured")
def unstructured(name: str) -> Pattern | None:
    """Return the pattern if ``name`` is its name."""
    return Unstructured() if name == Unstructured.name else None
