"""Fitness without labels: how little the outputs diverge from the dense model's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_unipts.fitness.measure import FITNESS, Outputs
from onnx_unipts.targets import Target, total_divergence


@FITNESS.register("divergence")
def divergence(
    targets: Sequence[Target], dense: Outputs, sparse: Outputs, labels: np.ndarray | None
) -> float:
    """Return the negative divergence, summed over the targets."""
    return -total_divergence(targets, dense, sparse)
