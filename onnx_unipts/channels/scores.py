"""How much each channel matters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.channels.groups import Channels

__all__ = ["channel_scores", "stand_ins"]


def channel_scores(channels: Channels, importance: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the score of each channel, float64 (count,), comparable among equal ones.

    ``importance`` holds scores of single weights, by any criterion, in the shapes of the weights.
    Their squares are summed over every slice that goes with a channel, relative to the mean slice
    of its space, and these are summed (SPA, arXiv 2403.18955, section 3.2).
    """
    total = np.zeros(channels.count)
    for sums in _slices(channels, importance):
        for space in channels.spaces:
            mean = sums[space.members].mean()
            if mean > 0:
                total[space.members] += sums[space.members] / mean
    return total


def stand_ins(channels: Channels, importance: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return for every space a tensor that allocators can take for a weight.

    Float64 (channels, weights of a channel): all elements of a row are the root mean square of the
    scores of the weights that go with the channel, so that what is kept of the tensor says how many
    channels stay.
    """
    squares = np.sum(list(_slices(channels, importance)), axis=0)
    tensors = {}
    for space in channels.spaces:
        rms = np.sqrt(squares[space.members] / space.cost)
        floor = max(float(rms.max()), 1e-30) * 1e-6
        tensors[space.name] = np.repeat(np.maximum(rms, floor)[:, None], space.cost, axis=1)
    return tensors


def _slices(channels: Channels, importance: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return per weight and axis the sum of squares that goes with each channel, (count,)."""
    found = []
    for key, axes in channels.axes.items():
        squares = np.square(importance[key].astype(np.float64))
        for axis, numbers in enumerate(axes):
            if numbers is None or not (numbers >= 0).any():
                continue
            others = tuple(other for other in range(squares.ndim) if other != axis)
            sums = squares.sum(axis=others)
            free = numbers >= 0
            found.append(np.bincount(numbers[free], sums[free], channels.count))
    return found
