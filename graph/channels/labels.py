"""Labels of positions along axes, tied into channels where one cannot go without the other."""

from __future__ import annotations

import numpy as np

__all__ = ["Labels"]


class Labels:
    """Issues labels (int64, from 0), remembers which are tied and which are pinned.

    Tied labels are one channel. A channel with a pinned label cannot be removed.
    """

    def __init__(self) -> None:
        self.count = 0
        self.pins: list[tuple[np.ndarray, str]] = []
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []

    def fresh(self, count: int) -> np.ndarray:
        """Return ``count`` new labels, shape (count,)."""
        labels = np.arange(self.count, self.count + count)
        self.count += count
        return labels

    def tie(self, left: np.ndarray, right: np.ndarray) -> None:
        """Make each label of ``left`` one channel with the label of ``right`` at its place."""
        if left is not right:
            self._ties.append(np.broadcast_arrays(left, right))  # type: ignore[arg-type]

    def pin(self, labels: np.ndarray, reason: str) -> None:
        """Keep the channels of ``labels`` for ``reason``."""
        self.pins.append((labels, reason))

    def solve(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the channel of every label (int64) and whether it is pinned (bool), (count,).

        A channel goes by its smallest label. Hook and shortcut, the parallel algorithm for
        connected components (Shiloach and Vishkin, 1982).
        """
        channel = np.arange(self.count)
        if self._ties:
            left = np.concatenate([a.reshape(-1) for a, _ in self._ties])
            right = np.concatenate([b.reshape(-1) for _, b in self._ties])
            while not np.array_equal(channel[left], channel[right]):
                smaller = np.minimum(channel[left], channel[right])
                np.minimum.at(channel, channel[left], smaller)
                np.minimum.at(channel, channel[right], smaller)
                while not np.array_equal(channel[channel], channel):
                    channel = channel[channel]
        pinned = np.zeros(self.count, dtype=bool)
        for labels, _ in self.pins:
            pinned[channel[labels]] = True
        return channel, pinned[channel]
