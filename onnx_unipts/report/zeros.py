"""Counting the zeros of a sparse model against the dense one that it was made from."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import onnx_ir as ir

from onnx_unipts.graph.model import read_tensors
from onnx_unipts.graph.prunable import KINDS, PrunableWeight, find_prunable
from onnx_unipts.report.layers import LayerSparsity, layer_sparsities

__all__ = ["INTEGERS", "dense_name", "zeros_against"]

# What onnxruntime's quantizer adds to the name of a weight.
QUANTIZED = "_quantized"
INTEGERS = ("INT8", "UINT8")


def zeros_against(dense: ir.Model, sparse: ir.Model) -> list[LayerSparsity]:
    """Count the zeros of the weights of ``sparse``, packed or not, in graph order.

    A weight goes by the name and shape that it has in ``dense``: what was cut out counts as zero.
    Quantised weights count where they are floats in ``dense``. Of those that are pruned only where
    that is asked for, or where there are no others, count those of which there are more zeros than
    in ``dense``; where nothing else counts, all of them.
    """
    original = {weight.key: weight for weight in find_prunable(dense, include=KINDS)}
    usual = {w.key for w in find_prunable(dense) if w.pruned}
    usual |= {w.key for w in find_prunable(sparse) if w.pruned}
    layers = _layers(sparse, find_prunable(sparse, include=KINDS), original)
    others = [original[name] for name in layers if name in original and name not in usual]
    before = _layers(dense, others, original)
    counted = [
        layer
        for name, layer in layers.items()
        if name in usual or (name in before and layer.zeros > before[name].zeros)
    ]
    return [_whole(layer, original.get(layer.name)) for layer in counted or layers.values()]


def dense_name(key: str, dense: Container[str]) -> str:
    """Return the key that the weight ``key`` of a sparse model has among those of the ``dense``."""
    return key if key in dense else key.removesuffix(QUANTIZED)


def _layers(
    model: ir.Model, weights: list[PrunableWeight], dense: Container[str]
) -> dict[str, LayerSparsity]:
    """Return the zeros of the ``weights`` of ``model``, by their names in the ``dense`` one."""
    weights = [weight for weight in weights if weight.pruned]
    layers = layer_sparsities(weights, read_tensors(model, [weight.key for weight in weights]))
    named = (replace(layer, name=dense_name(layer.name, dense)) for layer in layers)
    return {layer.name: layer for layer in named}


def _whole(layer: LayerSparsity, original: PrunableWeight | None) -> LayerSparsity:
    """Return ``layer`` as what it was in the ``original``."""
    if original is None or original.count <= layer.count:
        return layer
    kept = layer.count - layer.zeros
    return replace(layer, shape=original.shape, count=original.count, zeros=original.count - kept)
