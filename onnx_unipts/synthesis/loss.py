"""How far images are from what the dense model expects, as nodes behind the dense model.

Two terms: the cross entropy of the model's scores to given ones, and where BatchNormalization
remains, the distance of each batch's statistics from those of the training data (DeepInversion, Yin
et al., CVPR 2020, arXiv 1912.08795).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.cleanup import freeze_batch
from onnx_unipts.graph.differentiable import Builder, Names, make_differentiable, taken_names
from onnx_unipts.targets import Target, expose
from onnx_unipts.training.ort import GradientGraph, build_gradient_graph

__all__ = ["LOSS", "WANTED", "image_gradients"]

LOSS = "synthesis/loss"
WANTED = "synthesis/wanted"
"""The input that takes the probabilities the scores should have, of the scores' shape."""


def image_gradients(
    model: ir.Model, target: Target | None, images: Sequence[str], size: int
) -> GradientGraph | None:
    """Return the gradient graph of the loss by the inputs ``images``, for batches of ``size``.

    ``model`` is a cleaned model without parameters, ``target`` holds class scores (None where the
    model has none). The loss is the sum over the samples. None where there is nothing to lower:
    neither scores nor a BatchNormalization.

    Raises `UnsupportedModelError` where no gradient reaches the images.
    """
    model = model.clone()
    statistics = _normalized_values(model.graph)
    if target is None and not statistics:
        return None
    if target is not None:
        expose(model, [target])
    model = freeze_batch(model, size)
    terms = _statistics_terms(model.graph, size)
    if target is not None:
        terms.append(_cross_entropy(model.graph, target))
    graph = model.graph
    op = _builder(graph)
    total = terms[0]
    for term in terms[1:]:
        total = op.Add(total, term)
    _append(graph, op)
    loss = ir.node("Identity", [total], outputs=[ir.val(LOSS, ir.DataType.FLOAT, [])])
    graph.append(loss)
    graph.outputs.clear()
    graph.outputs.append(loss.outputs[0])
    make_differentiable(model)
    return build_gradient_graph(model, images, LOSS)


def _normalized_values(graph: ir.Graph) -> list[tuple[ir.Value, np.ndarray, np.ndarray]]:
    """Return what enters each BatchNormalization, with its running mean and variance."""
    found = []
    for node in graph:
        if node.op_type != "BatchNormalization" or node.domain:
            continue
        if node.attributes.get_int("training_mode", 0) or len(node.inputs) < 5:
            continue
        stored = [ir.convenience.get_const_tensor(value) for value in node.inputs[3:5] if value]
        if node.inputs[0] is not None and len(stored) == 2 and None not in stored:
            mean, variance = (tensor.numpy() for tensor in stored if tensor is not None)
            found.append((node.inputs[0], mean, variance))
    return found


def _statistics_terms(graph: ir.Graph, size: int) -> list[ir.Value]:
    """Append the distance of the statistics, in units of the running spread, times the batch."""
    entering = _normalized_values(graph)
    if not entering:
        return []
    op = _builder(graph)
    total = None
    for value, mean, variance in entering:
        axes = [axis for axis in range(op.rank(value)) if axis != 1]
        spread = np.sqrt(variance + 1e-5)
        observed = op.reduce("ReduceMean", value, axes)
        centred = op.Sub(value, observed)
        wide = op.Sqrt(op.Add(op.reduce("ReduceMean", op.Mul(centred, centred), axes), 1e-5))
        shape = [1, -1, *[1] * (op.rank(value) - 2)]
        parts = (
            op.Mul(op.Sub(observed, mean.reshape(shape)), (1 / spread).reshape(shape)),
            op.Sub(op.Mul(wide, (1 / spread).reshape(shape)), 1.0),
        )
        for part in parts:
            square = op.ReduceMean(op.Mul(part, part), keepdims=0)
            total = square if total is None else op.Add(total, square)
    scaled: ir.Value = op.Mul(total, size / len(entering))
    _append(graph, op)
    return [scaled]


def _cross_entropy(graph: ir.Graph, target: Target) -> ir.Value:
    scores = graph.outputs[0]
    wanted = ir.val(WANTED, ir.DataType.FLOAT, scores.shape)
    graph.inputs.append(wanted)
    op = _builder(graph)
    likelihood = op.Mul(op.LogSoftmax(scores, axis=target.axis), wanted)
    loss: ir.Value = op.Neg(op.ReduceSum(likelihood, keepdims=0))
    _append(graph, op)
    return loss


def _builder(graph: ir.Graph) -> Builder:
    return Builder(graph[len(graph) - 1], graph, Names(taken_names(graph)))


def _append(graph: ir.Graph, op: Builder) -> None:
    for initializer in op.initializers:
        graph.register_initializer(initializer)
    graph.extend(op.nodes)
