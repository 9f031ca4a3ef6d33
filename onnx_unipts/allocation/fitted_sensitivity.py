"""Fitted sensitivity: sensitivity allocation of layers that make up for what they lose.

As sensitivity, but each layer is fitted to its dense outputs at every level before the distortion
is measured: where layers are fitted in the end as well, this is what they will lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import Problem, register_search
from onnx_unipts.allocation.sensitivity import Curve, least_distortion, measured
from onnx_unipts.allocation.tempered_lamp import spared
from onnx_unipts.graph.errors import UsageError

# Densities that are measured: how many, the greatest, and the least as a share of that wanted.
LEVELS = 6
GREATEST = 0.8
LEAST = 0.25
# Choices of each layer, from this share of the least that was measured on.
CHOICES = 80
LEAST_CHOICE = 0.25
# What counts as no distortion, and that of outputs that are not finite.
NOTHING = 1e-6
WORST = 1e6


def _candidates(problem: Problem) -> int:
    """Return how many layers are scored, each at each of its levels."""
    return (len(problem.weights) - len(spared(problem))) * LEVELS


@register_search("fitted-sensitivity", _candidates, layer_by_layer=True)
def fitted_sensitivity(problem: Problem) -> Kept:
    """Keep where removing hurts most although the layer is fitted; filters of one channel stay."""
    score = problem.layer_score
    if score is None:
        raise UsageError("allocation fitted-sensitivity needs calibration data to fit layers to")
    limits, whole = problem.limits, spared(problem)
    if problem.total == sum(limits.values()):
        return dict(limits)
    records = measured(
        problem, "fitted-sensitivity", score, score.samples, partial(_levels, problem), whole
    )
    curves = {name: (np.array([limits[name]]), np.zeros(1)) for name in whole}
    curves |= {
        name: _curve(record["levels"], record["fitness"], limits[name])
        for name, record in records.items()
    }
    return least_distortion(problem, curves)


def _levels(problem: Problem, name: str) -> list[int]:
    """Return counts from a quarter of the wanted density on, evenly spaced in logarithm."""
    limit = problem.limits[name]
    density = problem.total / sum(problem.counts.values())
    first = min(max(LEAST * density, 1 / limit), GREATEST)
    spaced = np.geomspace(first, GREATEST, LEVELS)
    least = max(1, problem.floors[name])
    return sorted({min(limit, max(least, round(limit * share))) for share in spaced})


def _curve(levels: Sequence[int], fitness: Sequence[float], limit: int) -> Curve:
    """Go through what was measured, in logarithms: distortions fall by powers of ten.

    Beyond the first and the last level as between the next two.
    """
    lost = np.maximum(-np.nan_to_num(np.array(fitness), nan=-WORST, neginf=-WORST), NOTHING)
    falling = np.log(np.maximum.accumulate(lost[::-1])[::-1])
    known = np.log(levels)
    first = max(1.0, LEAST_CHOICE * levels[0])
    counts = np.unique(np.geomspace(first, limit, CHOICES).round().astype(np.int64))
    wanted = np.log(counts)
    distortion = np.interp(wanted, known, falling)
    if len(levels) > 1:
        slopes = np.diff(falling) / np.diff(known)
        distortion += slopes[0] * np.minimum(wanted - known[0], 0.0)
        distortion += slopes[-1] * np.maximum(wanted - known[-1], 0.0)
    return counts, np.where(counts == limit, 0.0, np.exp(distortion))
