"""Which sparsity to try next on the way to a goal, from what was measured at others."""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnx_unipts.bounds import Bounds
from onnx_unipts.goal import Goal

__all__ = ["CLOSE_DENSITIES", "SIZE_MARGIN", "corrected_sparsity", "next_density", "next_sparsity"]

# A search for the highest sparsity ends where the densities it has between are as close as this.
CLOSE_DENSITIES = 1.1
# Densities of trials are the same up to this factor.
SAME_DENSITY = 1.0001
# An estimate of a size may be off by this share before the trial that counts.
SIZE_MARGIN = 0.01
EVERYWHERE = Bounds()


def next_density(
    drops: Mapping[float, float], goal: Goal, bounds: Bounds = EVERYWHERE
) -> float | None:
    """Return the density to try next, None where the lowest that keeps the drop is known.

    ``drops`` are those measured, by density. What counts is how many weights are left: densities
    are halved or doubled until one keeps the drop and a lower one does not. Between those, the drop
    is taken for a power of the density, the attempt at least `CLOSE_DENSITIES` away from both.
    """
    kept = {density for density, drop in drops.items() if goal.reached_by(drop)}
    good = min(kept, default=1.0)
    bad = max(
        (density for density in drops if density not in kept and density < good), default=None
    )
    if bad is None:
        lowest = 1 - bounds.highest
        return max(good / 2, lowest) if good > lowest * CLOSE_DENSITIES else None
    if good / bad < CLOSE_DENSITIES * 1.001:
        return None
    if good not in drops:
        following = min(2 * bad, math.sqrt(bad), 1 - bounds.lowest)
        return following if following > bad * SAME_DENSITY else None
    if good / bad < CLOSE_DENSITIES**2 or goal.limit <= 0:
        return math.sqrt(good * bad)
    least = min(max(drops[good], goal.limit / 10), goal.limit)
    share = math.log(goal.limit / least) / math.log(drops[bad] / least)
    between = good * (bad / good) ** share
    return min(max(between, bad * CLOSE_DENSITIES), good / CLOSE_DENSITIES)


def next_sparsity(known: Mapping[float, float], limit: float, bounds: Bounds = EVERYWHERE) -> float:
    """Return where the size is ``limit`` if it is linear in the sparsity between known points."""
    if len(known) == 1:
        ((sparsity, size),) = known.items()
        factor = 0.7 if size > limit else 1.3
        following = 1 - (1 - sparsity) * factor
    else:
        (s1, b1), (s2, b2) = sorted(known.items(), key=lambda item: abs(item[1] - limit))[:2]
        following = s1 if b1 == b2 else s1 + (s2 - s1) * (limit - b1) / (b2 - b1)
    return round(bounds.within(following), 3)


def corrected_sparsity(
    sizes: Mapping[float, float], goal: Goal, bounds: Bounds = EVERYWHERE
) -> float | None:
    """Return the sparsity to try next, None where the lowest that makes the file small is known.

    ``sizes`` are those of trials, by sparsity; a single one is taken for a multiple of the density.
    What a lower sparsity gains has to be worth its trial: densities apart by `CLOSE_DENSITIES`.
    """
    limit = goal.limit * (1 - SIZE_MARGIN)
    small = min((s for s, size in sizes.items() if goal.reached_by(size)), default=None)
    large = max((s for s in sizes if small is None or s < small), default=0.0)
    if len(sizes) == 1:
        ((sparsity, size),) = sizes.items()
        following = round(bounds.within(1 - (1 - sparsity) * limit / size), 4)
    else:
        following = next_sparsity(sizes, limit, bounds)
    if following <= large:
        return None
    worth = small is None or 1 - following > (1 - small) * CLOSE_DENSITIES
    return following if worth else None
