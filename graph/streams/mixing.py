"""Mixing the channels of a linear stream: the tensors around it in another basis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.graph.streams.stream import Stream, Writer

__all__ = ["effective_filter", "mixed"]


def mixed(
    stream: Stream, tensors: Mapping[str, np.ndarray], rotation: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the tensors of ``stream``, by key, in the basis that ``rotation`` leads to.

    ``rotation`` is orthogonal, float64 (width, width): what was y in the stream becomes
    ``rotation @ y``. ``tensors`` holds at least those of the stream; float64 is returned. Variances
    of normalisations are what they would be were channels not correlated, with the scales that make
    up for it.
    """
    turned: dict[str, np.ndarray] = {}
    for writer in stream.writers:
        turned |= _written(writer, tensors, rotation)
    for key in stream.readers:
        turned[key] = np.moveaxis(np.tensordot(tensors[key], rotation, (1, 1)), -1, 1)
    return turned


def effective_filter(writer: Writer, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the filter of ``writer`` with what its normalisation scales each channel by."""
    filters = tensors[writer.filter]
    return filters * _factor(writer, tensors).reshape(-1, *[1] * (filters.ndim - 1))


def _factor(writer: Writer, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    if not writer.normalization:
        return np.ones(len(tensors[writer.filter]))
    scale, _, _, variance = writer.normalization
    return tensors[scale] / np.sqrt(tensors[variance] + writer.epsilon)


def _written(
    writer: Writer, tensors: Mapping[str, np.ndarray], rotation: np.ndarray
) -> dict[str, np.ndarray]:
    to = rotation * _factor(writer, tensors)  # of what the convolution gives
    before = [writer.filter, *([] if writer.bias is None else [writer.bias])]
    turned = {key: np.tensordot(to, tensors[key], (1, 0)) for key in before}
    if not writer.normalization:
        return turned
    scale, shift, mean, variance = writer.normalization
    spread = to**2 @ tensors[variance]
    return turned | {
        scale: np.sqrt(spread + writer.epsilon),
        shift: rotation @ tensors[shift],
        mean: to @ tensors[mean],
        variance: spread,
    }
