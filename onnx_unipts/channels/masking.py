"""The masks of a model whose channels are pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from onnx_unipts.channels.allocation import alive_channels, fitted
from onnx_unipts.channels.groups import Channels
from onnx_unipts.channels.update import Update
from onnx_unipts.patterns import Masking

__all__ = ["CandidateMasking", "ChannelMasking"]


@dataclass(frozen=True)
class CandidateMasking(Masking):
    """Masks for a search: what is kept is given by space of channels.

    ``ranking`` holds the score of each channel, ``sparsity`` is what every candidate reaches,
    ``update`` mends the weights that stay.
    """

    channels: Channels = field(kw_only=True)
    ranking: np.ndarray = field(kw_only=True)
    sparsity: float = field(kw_only=True)
    update: Update = field(kw_only=True)

    def alive(self, kept: Mapping[str, float]) -> np.ndarray:
        """Return which channels stay, bool."""
        counts = fitted(self.channels, kept, self.sparsity)
        return alive_channels(self.channels, counts, self.ranking)

    def candidate(
        self, tensors: Mapping[str, np.ndarray], kept: Mapping[str, int]
    ) -> dict[str, np.ndarray]:
        """Return the updated weights without the channels that go, and the updated biases."""
        alive = self.alive(kept)
        updated = self.update(alive)
        masks = self.channels.masks(alive)
        return updated | {n: updated.get(n, tensors[n]) * mask for n, mask in masks.items()}


@dataclass(frozen=True)
class ChannelMasking(Masking):
    """Masks that stay where they are, from the first step on: only the channels ``alive`` stay.

    A channel that is gone gets no gradient to come back by, and the weights that read it have been
    updated for its absence.
    """

    channels: Channels = field(kw_only=True)
    alive: np.ndarray = field(kw_only=True)

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """The mask of every weight, by name."""
        return self.channels.masks(self.alive)

    def by_scores(self, name: str, scores: np.ndarray, kept: int) -> np.ndarray:
        """Return the mask of the weight ``name``, whatever the scores and the count."""
        return self.masks[name]

    def kept(self, names: Iterable[str]) -> dict[str, int]:
        """Return how many weights stay, by name."""
        return {name: int(np.count_nonzero(self.masks[name])) for name in names}
