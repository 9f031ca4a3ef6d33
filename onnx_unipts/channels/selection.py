"""Choosing the channels that stay, by any allocator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnx_unipts.allocation import ALLOCATORS, Problem
from onnx_unipts.channels.allocation import fitted
from onnx_unipts.channels.groups import Channels
from onnx_unipts.channels.masking import CandidateMasking, ChannelMasking
from onnx_unipts.channels.scores import channel_scores, stand_ins
from onnx_unipts.channels.update import Update
from onnx_unipts.patterns import Masking

__all__ = ["Choice"]


class Choice:
    """The choice of channels of one model.

    Attributes:
        candidates: the masking under which the allocator's candidates are scored.
    """

    def __init__(
        self,
        channels: Channels,
        importance: Mapping[str, np.ndarray],
        update: Update,
        sparsity: float,
        base: Masking,
    ) -> None:
        """``importance`` holds the scores of single weights by any criterion, by name."""
        self._channels = channels
        self._importance = importance
        self._update = update
        self._base = base
        self.candidates = CandidateMasking(
            base.pattern,
            base.layouts,
            channels=channels,
            ranking=channel_scores(channels, importance),
            sparsity=sparsity,
            update=update,
        )

    def solve(
        self, method: str, problem: Problem
    ) -> tuple[ChannelMasking, dict[str, np.ndarray], dict[str, int]]:
        """Return the masking for training, the updated tensors, and what each space keeps.

        ``problem`` is that of the weights; the allocator called ``method`` solves it for the spaces
        of channels. As many axes of a weight lose channels, a space gives up less than the weights.
        """
        spaces = replace(
            problem,
            weights=stand_ins(self._channels, self._importance),
            sparsity=1 - math.sqrt(1 - problem.sparsity),
            masking=Masking(),
        )
        kept = ALLOCATORS[method](spaces)
        counts = fitted(self._channels, kept, problem.sparsity)
        alive = self.candidates.alive(kept)
        base = self._base
        masking = ChannelMasking(base.pattern, base.layouts, channels=self._channels, alive=alive)
        return masking, self._update(alive), counts
