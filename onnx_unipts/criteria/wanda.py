"""The criterion of Wanda: magnitude times the size of the input that a weight sees."""

from __future__ import annotations

import numpy as np

from onnx_unipts.criteria.criterion import CRITERIA, Evidence, ScaledMagnitude, warn_of_others
from onnx_unipts.patterns.masking import Scores
from onnx_unipts.reconstruction import input_squares, linear_layers


@CRITERIA.register("wanda")
def wanda(evidence: Evidence) -> Scores:
    """|w| times the root mean square of its input (Sun et al., arXiv 2306.11695, equation 1).

    The input of a filter's weight is what the filter sees at that kernel position. Scores compare
    within a layer, where the published code for language models compares within each output.
    """
    student = evidence.student
    layers = linear_layers(student)
    squares = input_squares(student, layers, student.dense, evidence.data, evidence.cores)
    factors = {}
    for name, mean in squares.items():
        layer = layers[name]
        shape = layer.matrix(student.dense[name]).shape
        spread = np.broadcast_to(np.sqrt(mean)[:, None, :], shape)
        factors[name] = layer.tensor(spread, student.dense[name].shape).astype(np.float32)
    warn_of_others(evidence, factors.keys())
    return ScaledMagnitude(factors)
