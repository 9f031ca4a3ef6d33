"""Sensitivity allocation: measured distortion per layer and sparsity, shared out optimally.

Each layer by itself is pruned to several levels, all others left dense, and the fitness tells how
far the outputs move. The distortion of a whole allocation is taken to be the sum over layers, which
dynamic programming minimises under the total (after Xu et al., Efficient Joint Optimization of
Layer-Adaptive Weight Pruning, ICCV 2023, arXiv 2308.10438).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import ALLOCATORS, SEARCHES, History, Problem
from onnx_unipts.graph.errors import UsageError

__all__ = ["cheapest", "sensitivity"]

# The total is shared out in this many equal parts at most, and each layer has this many choices.
PARTS = 4000
CHOICES = 64


@ALLOCATORS.register("sensitivity")
@SEARCHES.register("sensitivity")
def sensitivity(problem: Problem) -> Kept:
    """Keep where removing hurts most; go on after the last layer in the history."""
    if problem.score is None:
        raise UsageError("allocation sensitivity needs calibration data to measure distortion")
    history = problem.history or History()
    names = [name for name, limit in problem.limits.items() if limit]
    with problem.progress.phase("sensitivity", len(names), len(history.generations)) as phase:
        for number in range(len(history.generations), len(names)):
            history.append(_measured(problem, names[number], number))
            phase.advance(layer=names[number])
    curves = [
        _curve(record["levels"], record["fitness"], problem.limits[name])
        for record, name in zip(history.generations, names, strict=True)
    ]
    wanted = dict(zip(names, map(float, cheapest(curves, problem.total)), strict=True))
    return problem.distribute({name: wanted.get(name, 0.0) for name in problem.weights})


def cheapest(curves: Sequence[tuple[np.ndarray, np.ndarray]], total: int) -> list[int]:
    """Return one count per curve, in sum at most ``total``, of least distortion in sum.

    A curve is counts kept, int64 ascending, and the distortion of each, float64. Counts are
    rounded up to whole parts of ``total``, `PARTS` at most; where not even the smallest counts of
    all curves fit, these are returned.
    """
    part = max(1, -(-total // PARTS))
    budget = total // part
    best = np.zeros(budget + 1)
    chosen = []
    for counts, distortions in curves:
        units = -(-counts // part)
        options = np.full((len(units), budget + 1), np.inf)
        for row, (unit, distortion) in enumerate(zip(units, distortions, strict=True)):
            if unit <= budget:
                options[row, unit:] = best[: budget + 1 - unit] + distortion
        chosen.append(options.argmin(axis=0))
        best = options.min(axis=0)
    if not np.isfinite(best[budget]):
        return [int(counts[0]) for counts, _ in curves]
    picked = []
    left = budget
    for (counts, _), choice in zip(reversed(curves), reversed(chosen), strict=True):
        count = int(counts[choice[left]])
        picked.append(count)
        left -= -(-count // part)
    return picked[::-1]


def _measured(problem: Problem, name: str, number: int) -> dict:
    """Score the model with the layer called ``name`` pruned to each level, all others dense."""
    levels = _levels(problem, name)
    assert problem.score is not None
    fitness = problem.score([{**problem.limits, name: level} for level in levels])
    return {
        "generation": number,
        "layer": name,
        "levels": levels,
        "fitness": fitness,
        "best": max(fitness),
        "evaluations": len(levels),
        "images": len(levels) * problem.samples,
    }


def _levels(problem: Problem, name: str) -> list[int]:
    """Return counts from a twentieth of the wanted density to all, evenly spaced in logarithm."""
    limit = problem.limits[name]
    density = problem.total / sum(problem.counts.values())
    least = max(1, problem.floors[name], round(limit * density / 20))
    spaced = np.geomspace(least, limit, problem.levels)
    return sorted({min(limit, max(1, round(count))) for count in spaced})


def _curve(
    levels: Sequence[int], fitness: Sequence[float], limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate what was measured, made monotone: keeping more never counts as worse."""
    measured = np.array(fitness)
    finite = measured[np.isfinite(measured)]
    lost = measured.max() - np.where(np.isfinite(measured), measured, finite.min(initial=0.0))
    falling = np.maximum.accumulate(lost[::-1])[::-1]
    counts = np.unique(np.geomspace(levels[0], limit, CHOICES).round().astype(np.int64))
    return counts, np.interp(np.log(counts), np.log(levels), falling)
