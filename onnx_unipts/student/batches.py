"""Samples in batches of one shuffled order, always the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_unipts.calibration import CalibrationData

__all__ = ["batches_of"]


def batches_of(
    data: CalibrationData, batch_size: int, limit: int | None = None, augment: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """Yield up to ``limit`` samples in batches of one shuffled order, always the same.

    Shuffled, because data often comes sorted by class, and the statistics of a batch of one class
    are not those of the data. A last incomplete batch is left out unless it is the only one.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data))[:limit]
    size = min(batch_size, len(order))
    for start in range(0, len(order) - size + 1, size):
        indices = order[start : start + size]
        yield data.augmented(indices, rng) if augment else data.batch(indices)
