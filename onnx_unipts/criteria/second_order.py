"""The second-order criterion: what removing a weight costs when the others make up for it."""

from __future__ import annotations

import numpy as np

from onnx_unipts.criteria.criterion import CRITERIA, Evidence, ScaledMagnitude
from onnx_unipts.criteria.wanda import warn_of_others
from onnx_unipts.patterns.masking import Scores
from onnx_unipts.reconstruction import damped, have_room, input_moments, linear_layers


@CRITERIA.register("second-order")
def second_order(evidence: Evidence) -> Scores:
    """|w| / sqrt([H^-1]_jj), the root of the optimal brain surgeon's saliency.

    H is the second moment of the layer's inputs, the Hessian of its squared output error
    (Hassibi and Stork 1993; layer by layer as in ExactOBS, Frantar and Alistarh, arXiv 2208.11580,
    equation 3, and SparseGPT, arXiv 2301.00774). Layers of more inputs than there is memory for
    the H of go by magnitude.
    """
    student = evidence.student
    layers = {
        name: layer
        for name, layer in linear_layers(student).items()
        if have_room(layer.matrix(student.dense[name]))
    }
    moments = input_moments(student, layers, student.dense, evidence.data, evidence.cores)
    factors = {}
    for name, layer in layers.items():
        inverse = np.linalg.inv(damped(moments[name]))
        diagonal = np.maximum(np.einsum("gkk->gk", inverse), 1e-30)[:, None, :]
        shape = layer.matrix(student.dense[name]).shape
        factor = np.broadcast_to(1 / np.sqrt(diagonal), shape)
        factors[name] = layer.tensor(factor, student.dense[name].shape).astype(np.float32)
    warn_of_others(evidence, factors.keys())
    return ScaledMagnitude(factors)
