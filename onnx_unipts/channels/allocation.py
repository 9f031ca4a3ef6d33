"""From an allocation over spaces of channels to the channels that stay."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.channels.groups import Channels
from onnx_unipts.graph.errors import UsageError

__all__ = ["alive_channels", "fewest_left", "fitted"]

ROUNDS = 40
# How often multiples of channels may be halved where the target is out of reach otherwise.
FINEST = 5
# More weights than asked for are removed for the sake of speed, but not more than by this share.
SLACK = 0.15
# Time falls less than the multiply-adds, as every operator costs some: on ResNet-20, 0.43 of them
# took 0.59 of the time.
WORK = 0.85
EVENNESS = (0.0, 0.25, 0.5, 0.75, 1.0)


def fitted(channels: Channels, kept: Mapping[str, float], sparsity: float) -> dict[str, int]:
    """Return how many channels each space keeps, so that ``sparsity`` is reached.

    ``kept`` says how many weights each space should keep; only the proportions of channels that
    follow from it count. They are scaled until at least ``sparsity`` of the weights is gone, and no
    further step of any space fits in. Somewhat more of the multiply-adds is to go, too, unless that
    takes `SLACK` of the weights beyond, or cannot be; proportions with which it would are evened
    out as far as it takes. Raises `UsageError` where even the fewest channels are too many.
    """
    shares = {s.name: kept[s.name] / (s.cost * len(s.members)) for s in channels.spaces}
    mean = sum(shares.values()) / len(shares)
    first: dict[str, int] | None = None
    for evenness in EVENNESS:
        evened = {name: (1 - evenness) * s + evenness * mean for name, s in shares.items()}
        counts = _scaled(channels, evened, sparsity)
        if channels.left(_any_alive(channels, counts))[1] <= WORK * (1 - sparsity):
            return counts
        first = first or counts
    assert first is not None
    return first


def _scaled(channels: Channels, shares: Mapping[str, float], sparsity: float) -> dict[str, int]:
    def at(scale: float, finer: int) -> dict[str, int]:
        return {
            s.name: s.rounded(min(scale * shares[s.name], 1.0) * len(s.members), finer)
            for s in channels.spaces
        }

    def small(counts: Mapping[str, int]) -> bool:
        return channels.left(_any_alive(channels, counts))[0] <= 1 - sparsity + 1e-9

    def fast(counts: Mapping[str, int]) -> bool:
        weights, work = channels.left(_any_alive(channels, counts))
        budget = 1 - sparsity + 1e-9
        return weights <= budget and (work <= WORK * budget or weights <= budget - SLACK)

    low, high = 0.0, 2 / max(min(shares.values()), 1e-6)
    possible = [
        (fits, finer) for fits in (fast, small) for finer in range(FINEST) if fits(at(low, finer))
    ]
    if not possible:
        raise UsageError(
            f"sparsity {sparsity:g} cannot be reached by removing channels: "
            f"{fewest_left(channels):.1%} would be left with the fewest; use a lower --sparsity"
        )
    fits, finer = possible[0]
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(at(middle, finer)) else (low, middle)
    counts, scale = at(low, finer), low
    wanted = {s.name: scale * shares[s.name] * len(s.members) for s in channels.spaces}
    for space in sorted(channels.spaces, key=lambda s: counts[s.name] - wanted[s.name]):
        while counts[space.name] < len(space.members):
            wider = space.rounded(counts[space.name] + space.step(finer), finer)
            more = counts | {space.name: wider}
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


def fewest_left(channels: Channels) -> float:
    """Return the share of weights that is left where each space keeps the fewest channels."""
    counts = {space.name: space.rounded(0, FINEST - 1) for space in channels.spaces}
    return channels.left(_any_alive(channels, counts))[0]


def _any_alive(channels: Channels, counts: Mapping[str, int]) -> np.ndarray:
    """Return the first channels of each space: which they are makes no difference to the cost."""
    return alive_channels(channels, counts, np.zeros(channels.count))
