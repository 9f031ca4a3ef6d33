"""The channel pattern: whole channels go, all over the model, and are cut out at the end."""

from __future__ import annotations

import numpy as np

from onnx_unipts.patterns.pattern import PATTERNS, Layout, Pattern

__all__ = ["Channel"]


class Channel(Pattern):
    """Channels are kept or removed with everything that depends on them.

    Which of them belong together is a matter of the whole graph, so that masks are made for all
    tensors at once: see `onnx_unipts.channels`.
    """

    name = "channel"
    gain = (
        "channels that are cut out leave every runtime less to compute, and make the file smaller"
    )
    survives_removal = True
    whole_model = True

    def mask(self, scores: np.ndarray, kept: int, layout: Layout) -> np.ndarray:
        """Channels are no matter of one tensor."""
        raise TypeError("the masks of channels are made for all tensors at once")

    def violation(self, tensor: np.ndarray, layout: Layout) -> str:
        """Find zeros that are not in slices of zeros."""
        nonzero = tensor != 0
        whole = 1
        for axis in range(tensor.ndim):
            others = tuple(other for other in range(tensor.ndim) if other != axis)
            whole *= int(nonzero.any(axis=others).sum())
        scattered = whole - int(nonzero.sum())
        return f"{scattered} zeros lie in channels that stay" if scattered else ""


@PATTERNS.register("channel")
def channel(name: str) -> Pattern | None:
    """Return the pattern if ``name`` is its name."""
    return Channel() if name == Channel.name else None
