"""Folding a normalisation into the convolution before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_unipts.graph.normalization.found import Normalization
from onnx_unipts.graph.normalization.rescaling import per_filter

__all__ = ["fold", "folded"]


def fold(
    normalization: Normalization, tensors: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return filter and bias of the convolution that equals convolution and normalisation.

    Computed in float64, returned in float32. Zeros stay zero, and no other weight becomes zero: a
    product too small for float32 keeps its sign and the smallest normal magnitude.
    """
    assert normalization.weight is not None
    filters = tensors[normalization.weight]
    before = 0.0 if normalization.conv_bias is None else tensors[normalization.conv_bias]
    own = (*normalization.trained, *normalization.statistics)
    exact, bias = folded(filters, before, [tensors[name] for name in own], normalization.epsilon)
    rounded = exact.astype(np.float32)
    lost = (rounded == 0) & (filters != 0)
    rounded[lost] = np.copysign(np.finfo(np.float32).tiny, filters[lost])
    return rounded, bias.astype(np.float32)


def folded(
    filters: np.ndarray,
    bias: np.ndarray | float,
    normalization: Sequence[np.ndarray],
    epsilon: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return filter and bias of convolution and normalisation in one, float64.

    ``filters`` (channels, ...) and ``bias`` (channels,) are those of the convolution,
    ``normalization`` the other's scale, bias, mean and variance (channels,).
    """
    scale, shift, mean, variance = (tensor.astype(np.float64) for tensor in normalization)
    factor = scale / np.sqrt(variance + epsilon)
    return filters * per_filter(factor, filters), (bias - mean) * factor + shift
