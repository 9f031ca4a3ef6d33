"""Sensitivity allocation: measured distortion per layer and sparsity, shared out optimally.

Each layer by itself is pruned to several levels, all others left dense, and the fitness tells how
far the outputs move. The distortion of a whole allocation is taken to be the sum over layers, which
dynamic programming minimises under the total (after Xu et al., Efficient Joint Optimization of
Layer-Adaptive Weight Pruning, ICCV 2023, arXiv 2308.10438).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import History, Problem, register_search
from onnx_unipts.graph.errors import UsageError

__all__ = ["Curve", "cheapest", "least_distortion", "measured", "sensitivity"]

# Counts kept, int64 ascending, and the distortion of each, float64.
Curve = tuple[np.ndarray, np.ndarray]

# The total is shared out in this many equal parts at most, and each layer has this many choices.
PARTS = 4000
CHOICES = 64


def _candidates(problem: Problem) -> int:
    """Return how many candidates are scored: each layer at each of its levels."""
    return len(problem.weights) * problem.levels


@register_search("sensitivity", _candidates)
def sensitivity(problem: Problem) -> Kept:
    """Keep where removing hurts most; go on after the last layer in the history."""
    score = problem.score
    if score is None:
        raise UsageError("allocation sensitivity needs calibration data to measure distortion")

    def alone(name: str, levels: Sequence[int]) -> list[float]:
        return score([{**problem.limits, name: level} for level in levels])

    records = measured(problem, "sensitivity", alone, problem.samples, partial(_levels, problem))
    curves = {
        name: _curve(record["levels"], record["fitness"], problem.limits[name])
        for name, record in records.items()
    }
    return least_distortion(problem, curves)


def measured(
    problem: Problem,
    method: str,
    score: Callable[[str, Sequence[int]], list[float]],
    samples: int,
    levels_of: Callable[[str], list[int]],
    spared: Collection[str] = (),
) -> dict[str, Mapping[str, Any]]:
    """Return what each layer, alone kept to each of its levels, makes of the fitness, by name.

    Of all layers but those ``spared``. Records have ``levels`` and ``fitness``, on so many
    ``samples``; those in the history are not measured again.
    """
    history = problem.history or History()
    names = [name for name, limit in problem.limits.items() if limit and name not in spared]
    done = history.generations
    with problem.progress.phase(method, len(names), len(done)) as phase:
        for number in range(len(done), len(names)):
            name = names[number]
            levels = levels_of(name)
            fitness = score(name, levels)
            history.append(
                {
                    "generation": number,
                    "layer": name,
                    "levels": levels,
                    "fitness": fitness,
                    "best": max(fitness),
                    "evaluations": len(levels),
                    "images": len(levels) * samples,
                }
            )
            phase.advance(layer=name)
    return dict(zip(names, history.generations, strict=True))


def least_distortion(problem: Problem, curves: Mapping[str, Curve]) -> Kept:
    """Return the solution of least distortion in sum; layers without a curve keep nothing."""
    counts = cheapest(list(curves.values()), problem.total)
    wanted = dict(zip(curves, map(float, counts), strict=True))
    return problem.distribute({name: wanted.get(name, 0.0) for name in problem.weights})


def cheapest(curves: Sequence[Curve], total: int) -> list[int]:
    """Return one count per curve, in sum at most ``total``, of least distortion in sum.

    Counts are rounded up to whole parts of ``total``, `PARTS` at most; where not even the smallest
    counts of all curves fit, these are returned.
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
    measured = np.where(np.isfinite(measured), measured, finite.min(initial=0.0))
    lost = measured.max() - measured
    falling = np.maximum.accumulate(lost[::-1])[::-1]
    counts = np.unique(np.geomspace(levels[0], limit, CHOICES).round().astype(np.int64))
    return counts, np.interp(np.log(counts), np.log(levels), falling)
