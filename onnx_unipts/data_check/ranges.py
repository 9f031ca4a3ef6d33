"""Which values the data holds, and evenly spread samples of it."""

from __future__ import annotations

import numpy as np

from onnx_unipts.calibration import CalibrationData

__all__ = ["FEW", "spread", "stand_ins", "value_ranges"]

# Samples that are looked at.
FEW = 128
# Values so far out, absolutely and in medians, stand for something, unless they are many.
FAR_OUT = 1e9
MOST_FAR_OUT = 0.01
LARGEST_INPUTS = 2**24  # numbers of all samples whose range is shown


def value_ranges(data: CalibrationData) -> list[str]:
    """Return a line on each input: its shape, and which values a few samples hold."""
    largest = max(values.size for values in data.batch(np.arange(1)).values())
    batch = data.batch(spread(len(data), max(1, min(FEW, LARGEST_INPUTS // max(largest, 1)))))
    return [f"  {name}: {_range(values)}" for name, values in batch.items()]


def stand_ins(data: CalibrationData) -> list[str]:
    """Return a warning for each input in which few values are far out, as if for missing ones.

    Masks hold many of them, and are left alone.
    """
    first: dict[str, tuple[int, float]] = {}
    counts: dict[str, int] = {}
    for start in range(0, 0 if data.has_pixels else len(data), FEW):
        for name, values in data.batch(np.arange(start, min(start + FEW, len(data)))).items():
            place, value, count = _far_out(values)
            if count:
                first.setdefault(name, (start + place, value))
                counts[name] = counts.get(name, 0) + count
    return [
        f"input {name!r} holds {value:.4g} (sample {sample}; {counts[name]} such in all): if that "
        "stands for a missing value, fill it in or leave the sample out, or little else is learned"
        for name, (sample, value) in first.items()
    ]


def spread(total: int, count: int) -> np.ndarray:
    """Return ``count`` indices below ``total``, int64, evenly spread, or all of them."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))


def _far_out(values: np.ndarray) -> tuple[int, float, int]:
    """Return the first sample with a value far out, that value, and how many there are."""
    none = 0, 0.0, 0
    if values.dtype.kind != "f" or not values.size or float(np.abs(values).max()) <= FAR_OUT:
        return none
    flat = values.astype(np.float64).reshape(len(values), -1)
    far = np.abs(flat) > FAR_OUT * max(1.0, float(np.median(np.abs(flat))))
    if far.sum() > MOST_FAR_OUT * far.size or not far.any():
        return none
    sample = int(far.any(axis=1).argmax())
    return sample, float(flat[sample, far[sample].argmax()]), int(far.sum())


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
