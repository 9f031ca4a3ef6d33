"""From an allocation over spaces of channels to the channels that stay."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.channels.groups import Channels
from onnx_unipts.graph.errors import UsageError

__all__ = ["alive_channels", "fitted"]

ROUNDS = 40
# More weights than asked for are removed for the sake of speed, but not more than by this share.
SLACK = 0.1


def fitted(channels: Channels, kept: Mapping[str, float], sparsity: float) -> dict[str, int]:
    """Return how many channels each space keeps, so that ``sparsity`` is reached.

    ``kept`` says how many weights each space should keep; only the proportions of channels that
    follow from it count. They are scaled until at least ``sparsity`` of the weights is gone, and no
    further step of any space fits in. As much of the multiply-adds is to go, too, unless that takes
    a tenth of the weights beyond. Raises `UsageError` where even the fewest channels are too many.
    """
    shares = {s.name: kept[s.name] / (s.cost * len(s.members)) for s in channels.spaces}

    def at(scale: float) -> dict[str, int]:
        return {
            s.name: s.rounded(min(scale * shares[s.name], 1.0) * len(s.members))
            for s in channels.spaces
        }

    def fits(counts: Mapping[str, int]) -> bool:
        weights, work = channels.left(_any_alive(channels, counts))
        budget = 1 - sparsity + 1e-9
        return weights <= budget and (work <= budget or weights <= budget - SLACK)

    low, high = 0.0, 2 / max(min(shares.values()), 1e-6)
    if not fits(at(low)):
        least, _ = channels.left(_any_alive(channels, at(low)))
        raise UsageError(
            f"sparsity {sparsity:g} cannot be reached by removing channels: {least:.1%} would be "
            "left with the fewest; use a lower --sparsity"
        )
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(at(middle)) else (low, middle)
    counts, scale = at(low), low
    wanted = {s.name: scale * shares[s.name] * len(s.members) for s in channels.spaces}
    for space in sorted(channels.spaces, key=lambda s: counts[s.name] - wanted[s.name]):
        while counts[space.name] < len(space.members):
            more = counts | {space.name: space.rounded(counts[space.name] + space.multiple)}
            if more == counts or not fits(more):
                break
            counts = more
    return counts


def alive_channels(channels: Channels, counts: Mapping[str, int], scores: np.ndarray) -> np.ndarray:
    """Return which channels stay (bool): those of each space that score highest."""
    alive = np.zeros(channels.count, dtype=bool)
    for space in channels.spaces:
        best = np.argsort(-scores[space.members], kind="stable")[: counts[space.name]]
        alive[space.members[best]] = True
    return alive


def _any_alive(channels: Channels, counts: Mapping[str, int]) -> np.ndarray:
    """Return the first channels of each space: which they are makes no difference to the cost."""
    return alive_channels(channels, counts, np.zeros(channels.count))
