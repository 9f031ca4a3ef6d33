"""The second-order criterion: what removing a weight costs when the others make up for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_unipts.criteria.criterion import CRITERIA, Evidence, ScaledMagnitude, warn_of_others
from onnx_unipts.patterns.masking import Scores
from onnx_unipts.reconstruction import (
    LinearLayer,
    damped,
    have_room,
    input_moments,
    linear_layers,
    moments_bytes,
)
from onnx_unipts.student import Student


@CRITERIA.register("second-order")
def second_order(evidence: Evidence) -> Scores:
    """|w| / sqrt([H^-1]_jj), the root of the optimal brain surgeon's saliency.

    H is the second moment of the layer's inputs, the Hessian of its squared output error
    (Hassibi and Stork 1993; layer by layer as in ExactOBS, Frantar and Alistarh, arXiv 2208.11580,
    equation 3, and SparseGPT, arXiv 2301.00774). Layers of more inputs than there is memory for
    the H of go by magnitude.
    """
    student = evidence.student
    layers = linear_layers(student)
    large = [name for name, layer in layers.items() if not have_room(_bytes(student, name, layer))]
    if large:
        evidence.warn(f"too many inputs for their moments, magnitude decides: {', '.join(large)}")
    factors = {}
    for some in _in_room(student, {n: layer for n, layer in layers.items() if n not in large}):
        moments = input_moments(student, some, student.dense, evidence.data, evidence.cores)
        for name, measured in moments.items():
            layer, inverse = layers[name], np.linalg.inv(damped(measured))
            diagonal = np.maximum(np.einsum("gkk->gk", inverse), 1e-30)[:, None, :]
            shape = layer.matrix(student.dense[name]).shape
            factor = np.broadcast_to(1 / np.sqrt(diagonal), shape)
            factors[name] = layer.tensor(factor, student.dense[name].shape).astype(np.float32)
    warn_of_others(evidence, [*factors, *large])
    return ScaledMagnitude(factors)


def _bytes(student: Student, name: str, layer: LinearLayer) -> int:
    groups, _, inputs = layer.matrix(student.dense[name]).shape
    return moments_bytes(inputs, groups)


def _in_room(student: Student, layers: dict[str, LinearLayer]) -> Iterator[dict[str, LinearLayer]]:
    """Yield ``layers`` in parts whose moments there is memory for at once."""
    some: dict[str, LinearLayer] = {}
    taken = 0
    for name, layer in layers.items():
        taken += _bytes(student, name, layer)
        if some and not have_room(taken):
            yield some
            some, taken = {}, _bytes(student, name, layer)
        some[name] = layer
    if some:
        yield some
