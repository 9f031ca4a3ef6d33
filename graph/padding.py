"""The padding that ``auto_pad`` stands for."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["same_padding"]


def same_padding(
    sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int], *, upper: bool
) -> list[tuple[int, int]]:
    """Return what comes before and after each axis, as the ONNX specification of Conv defines.

    ``sizes`` are those of the data and ``reach`` those of the dilated kernel. SAME pads so that the
    output has ceil(size / stride) elements; ``upper`` puts the odd one at the end.
    """
    padding = []
    for size, width, stride in zip(sizes, reach, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + width - size, 0)
        less, more = total // 2, total - total // 2
        padding.append((less, more) if upper else (more, less))
    return padding
