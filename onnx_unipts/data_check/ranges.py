"""Which values the data holds, and evenly spread samples of it."""

from __future__ import annotations

import numpy as np

from onnx_unipts.calibration import CalibrationData

__all__ = ["FEW", "spread", "value_ranges"]

# Samples that are looked at.
FEW = 128
LARGEST_INPUTS = 2**24  # numbers of all samples whose range is shown


def value_ranges(data: CalibrationData) -> list[str]:
    """Return a line on each input: its shape, and which values a few samples hold."""
    largest = max(values.size for values in data.batch(np.arange(1)).values())
    batch = data.batch(spread(len(data), max(1, min(FEW, LARGEST_INPUTS // max(largest, 1)))))
    return [f"  {name}: {_range(values)}" for name, values in batch.items()]


def spread(total: int, count: int) -> np.ndarray:
    """Return ``count`` indices below ``total``, int64, evenly spread, or all of them."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))


def _range(values: np.ndarray) -> str:
    axes = "x".join(map(str, values.shape[1:])) or "one number"
    text = f"{values.dtype} of {axes}"
    if values.dtype.kind == "O" or not values.size:
        return text
    if values.dtype.kind == "b":
        return f"{text}, {values.mean():.0%} true"
    wide = values.astype(np.float64)
    return (
        f"{text}, values {wide.min():.4g} to {wide.max():.4g}, mean {wide.mean():.4g}, standard "
        f"deviation {wide.std():.4g}"
    )
