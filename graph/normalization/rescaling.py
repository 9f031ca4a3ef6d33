"""Other filters, scales and statistics with which a normalised convolution computes the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.normalization.found import Normalization

__all__ = ["FILTER_SCALES", "identity", "per_filter", "rescale", "restate"]

# A channel of less variance than this share of epsilon has drowned in it: it puts out its bias.
DROWNED = 1e-6


def identity(
    normalizations: Iterable[Normalization],
    weights: Mapping[str, np.ndarray],
    statistics: Mapping[str, np.ndarray],
    filter_scale: str,
) -> dict[str, np.ndarray]:
    """Return tensors with which every inserted normalisation leaves the dense model as it is.

    ``statistics`` holds mean and variance of the dense convolution's output under the names of the
    normalisation's tensors. Scale and bias become sqrt(variance + epsilon) and mean. The filter may
    then have any positive scale, which the normalisation absorbs; ``filter_scale`` names one of
    `FILTER_SCALES`. The result holds the four tensors, the filters and the convolutions' biases.
    """
    tensors: dict[str, np.ndarray] = {}
    for norm in normalizations:
        if norm.weight is None:
            continue
        mean = statistics[norm.mean].astype(np.float64)
        spread = np.sqrt(statistics[norm.variance].astype(np.float64) + norm.epsilon)
        tensors[norm.scale] = spread.astype(np.float32)
        tensors[norm.bias] = mean.astype(np.float32)
        biases = [] if norm.conv_bias is None else [norm.conv_bias]
        tensors |= _scaled(norm, norm.weight, biases, weights, statistics, filter_scale)
    return tensors


def restate(
    normalizations: Sequence[Normalization],
    tensors: Mapping[str, np.ndarray],
    statistics: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return tensors that compute the same with other ``statistics``: scale and bias make up.

    ``statistics`` holds mean and variance of what enters each normalisation under the names of its
    tensors; one that shares a tensor with another stays as it is. A channel whose variance is
    nothing beside the one it had keeps its statistics: its scale would have to be nothing, too.
    """
    names = [name for norm in normalizations for name in (*norm.trained, *norm.statistics)]
    restated: dict[str, np.ndarray] = {}
    for norm in normalizations:
        own = (*norm.trained, *norm.statistics)
        if any(names.count(name) > 1 for name in own):
            continue
        scale, bias, mean, variance = (tensors[name].astype(np.float64) for name in own)
        kept = statistics[norm.variance] <= 1e-3 * variance
        new_mean = np.where(kept, mean, statistics[norm.mean])
        new_variance = np.where(kept, variance, statistics[norm.variance])
        spread = np.sqrt(variance + norm.epsilon)
        values = (
            scale * np.sqrt(new_variance + norm.epsilon) / spread,
            bias + scale * (new_mean - mean) / spread,
            new_mean,
            new_variance,
        )
        restated |= {n: v.astype(np.float32) for n, v in zip(own, values, strict=True)}
    return restated


def rescale(
    model: ir.Model,
    normalizations: Iterable[Normalization],
    weights: Collection[str],
    tensors: Mapping[str, np.ndarray],
    filter_scale: str,
) -> dict[str, np.ndarray]:
    """Return filters of the scale that `identity` gives them, and statistics that make up for it.

    For normalisations that ``model`` has, right behind a Conv whose filter is one of ``weights``
    and used there alone, as its output and its bias are.
    """
    by_output = {node.outputs[0].name: node for node in model.graph if node.outputs}
    names = [name for norm in normalizations for name in norm.statistics]
    rescaled: dict[str, np.ndarray] = {}
    for norm in normalizations:
        entering = by_output[norm.output].inputs[0]
        node = None if entering is None else entering.producer()
        if node is None or not _is_own_filter(node, weights):
            continue
        if any(names.count(name) > 1 for name in norm.statistics):
            continue
        weight, *biases = (str(value.name) for value in node.inputs[1:3] if value is not None)
        rescaled |= _scaled(norm, weight, biases, tensors, tensors, filter_scale)
    return rescaled


def _scaled(
    norm: Normalization,
    weight: str,
    biases: Iterable[str],
    weights: Mapping[str, np.ndarray],
    statistics: Mapping[str, np.ndarray],
    filter_scale: str,
) -> dict[str, np.ndarray]:
    """Return filter and biases of a convolution, scaled, and the statistics that make up for it."""
    mean, variance = (statistics[name].astype(np.float64) for name in norm.statistics)
    spread = np.sqrt(variance + norm.epsilon)
    filters = weights[weight]
    factor = FILTER_SCALES[filter_scale](filters, spread)
    # Weight decay leaves next to nothing of a filter that is not used: nothing to be scaled up.
    factor = np.where(variance > DROWNED * norm.epsilon, factor, 1.0)
    # A scaled variance has to stay one: it must not fall below zero with epsilon taken off.
    factor = np.maximum(factor, np.sqrt(norm.epsilon) / spread)
    return {
        weight: (filters * per_filter(factor, filters)).astype(np.float32),
        norm.mean: (mean * factor).astype(np.float32),
        norm.variance: ((spread * factor) ** 2 - norm.epsilon).astype(np.float32),
        **{bias: (weights[bias] * factor).astype(np.float32) for bias in biases},
    }


def _is_own_filter(node: ir.Node, weights: Collection[str]) -> bool:
    if node.op_type != "Conv" or node.domain:
        return False
    tensors = [value for value in node.inputs[1:3] if value is not None]
    output = node.outputs[0]
    if any(len(value.uses()) != 1 for value in (*tensors, output)) or output.is_graph_output():
        return False
    return tensors[0].name in weights and all(value.is_graph_input() for value in tensors)


def _unscaled(filters: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.ones(len(filters))


def _to_unit_variance(filters: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return 1.0 / spread


def _to_he_initialisation(filters: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Root mean square sqrt(2 / fan_in), as He et al. (arXiv 1502.01852) initialise."""
    squares = np.square(filters.astype(np.float64)).reshape(len(filters), -1)
    rms = np.sqrt(squares.mean(axis=1))
    wanted = np.sqrt(2.0 / squares.shape[1])
    return np.where(rms > 0, wanted / np.maximum(rms, 1e-30), 1.0)


FILTER_SCALES = {
    "none": _unscaled,
    "unit-variance": _to_unit_variance,
    "he": _to_he_initialisation,
}


def per_filter(factor: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return ``factor``, one number per filter, in a shape that multiplies ``filters``."""
    return factor.reshape(-1, *[1] * (filters.ndim - 1))
