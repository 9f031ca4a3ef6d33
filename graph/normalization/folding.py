"""Folding a normalisation into the convolution before it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.graph.normalization.found import Normalization
from onnx_unipts.graph.normalization.rescaling import per_filter

__all__ = ["fold"]


def fold(
    normalization: Normalization, tensors: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return filter and bias of the convolution that equals convolution and normalisation.

    Computed in float64, returned in float32. Zeros stay zero, and no other weight becomes zero: a
    product too small for float32 keeps its sign and the smallest normal magnitude.
    """
    assert normalization.weight is not None
    scale, bias, mean, variance = (
        tensors[name].astype(np.float64)
        for name in (
            normalization.scale,
            normalization.bias,
            normalization.mean,
            normalization.variance,
        )
    )
    factor = scale / np.sqrt(variance + normalization.epsilon)
    filters = tensors[normalization.weight]
    folded = (filters * per_filter(factor, filters)).astype(np.float32)
    lost = (folded == 0) & (filters != 0)
    folded[lost] = np.copysign(np.finfo(np.float32).tiny, filters[lost])
    before = 0.0 if normalization.conv_bias is None else tensors[normalization.conv_bias]
    return folded, ((before - mean) * factor + bias).astype(np.float32)
