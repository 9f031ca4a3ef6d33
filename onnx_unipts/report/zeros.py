"""Counting the zeros of a sparse model against the dense one that it was made from."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from onnx_unipts.graph.model import read_tensors
from onnx_unipts.graph.prunable import PrunableWeight, find_prunable
from onnx_unipts.report.layers import LayerSparsity, layer_sparsities

__all__ = ["zeros_against"]

# What onnxruntime's quantizer adds to the name of a weight.
QUANTIZED = "_quantized"
INTEGERS = ("INT8", "UINT8")


def zeros_against(dense: ir.Model, sparse: ir.Model) -> list[LayerSparsity]:
    """Count the zeros of the weights of ``sparse``, packed or not, in graph order.

    A weight goes by the name and shape that it has in ``dense``: what was cut out counts as zero.
    Quantised weights count where they are floats in ``dense``, and where there are no others.
    """
    original = {weight.key: weight for weight in find_prunable(dense)}
    weights = _counted(find_prunable(sparse, include=("quantised",)), original)
    layers = layer_sparsities(weights, read_tensors(sparse, [weight.key for weight in weights]))
    return [_whole(layer, original.get(_name(layer.name))) for layer in layers]


def _counted(
    weights: list[PrunableWeight], original: dict[str, PrunableWeight]
) -> list[PrunableWeight]:
    pruned = [weight for weight in weights if weight.pruned]
    once_pruned = {key for key, weight in original.items() if weight.pruned}
    counted = [w for w in pruned if w.dtype not in INTEGERS or _name(w.key) in once_pruned]
    return counted or pruned


def _name(key: str) -> str:
    return key.removesuffix(QUANTIZED)


def _whole(layer: LayerSparsity, original: PrunableWeight | None) -> LayerSparsity:
    """Return ``layer`` as what it was in the ``original``."""
    if original is None:
        return layer
    layer = replace(layer, name=original.key)
    if original.count <= layer.count:
        return layer
    kept = layer.count - layer.zeros
    return replace(layer, shape=original.shape, count=original.count, zeros=original.count - kept)
