"""Folding the BatchNormalizations of a finished model into the convolutions before them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.nodes import input_at

__all__ = ["fold_normalizations"]

EPSILON = 1e-5
STANDARD = ("", "ai.onnx")


def fold_normalizations(model: ir.Model) -> int:
    """Fold, in place, every BatchNormalization of the main graph that follows a Conv; count them.

    Filter and bias are constants, nothing else sees the output of the Conv, and the four tensors
    of the normalisation are constants. The filter keeps its name where no other node uses it, and
    its zeros, which are positive afterwards.
    """
    folded = 0
    for node in list(model.graph):
        conv = _convolution(node)
        if conv is not None and _fold(model.graph, conv, node):
            folded += 1
    return folded


def _convolution(norm: ir.Node) -> ir.Node | None:
    """Return the Conv before ``norm`` if nothing else sees what lies between."""
    if norm.op_type != "BatchNormalization" or norm.domain not in STANDARD:
        return None
    entering = norm.inputs[0]
    conv = entering.producer() if entering is not None else None
    if conv is None or conv.op_type != "Conv" or conv.domain not in STANDARD:
        return None
    assert entering is not None
    if len(entering.uses()) != 1 or entering.is_graph_output():
        return None
    training = norm.attributes.get("training_mode")
    if training is not None and training.value:
        return None
    return None if any(output.uses() for output in norm.outputs[1:]) else conv


def _fold(graph: ir.Graph, conv: ir.Node, norm: ir.Node) -> bool:
    filters = conv.inputs[1]
    bias = input_at(conv, 2)
    tensors = [_constant(value) for value in (filters, *norm.inputs[1:5])]
    offset = _constant(bias) if bias is not None else None
    if any(tensor is None for tensor in tensors) or (bias is not None and offset is None):
        return False
    weight, scale, shift, mean, variance = (t.astype(np.float64) for t in tensors if t is not None)
    epsilon = norm.attributes["epsilon"].value if "epsilon" in norm.attributes else EPSILON
    factor = scale / np.sqrt(variance + epsilon)
    assert tensors[0] is not None
    dtype = tensors[0].dtype
    scaled = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(dtype)
    scaled[weight == 0] = 0
    moved = (shift + ((0 if offset is None else offset) - mean) * factor).astype(dtype)
    assert filters is not None
    output = norm.outputs[0]
    name = f"{output.name}/bias"
    conv.resize_inputs(3)
    conv.replace_input_with(1, _store(graph, filters, scaled, f"{output.name}/weight"))
    conv.replace_input_with(2, _new(graph, name, moved))
    between = conv.outputs[0]
    output.replace_all_uses_with(between, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
    between.name, between.shape, between.type = output.name, output.shape, output.type
    for value in (filters, bias):
        if value is not None and value.is_initializer() and not value.uses():
            del graph.initializers[value.name]  # type: ignore[arg-type]
    return True


def _constant(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of an initializer that callers cannot override."""
    if value is None or value.is_graph_input() or not value.is_initializer():
        return None
    return None if value.const_value is None else value.const_value.numpy()


def _store(graph: ir.Graph, old: ir.Value, array: np.ndarray, name: str) -> ir.Value:
    """Write ``array`` over ``old`` if only one node uses it, else under ``name``."""
    if len(old.uses()) > 1 or old.is_graph_output():
        return _new(graph, name, array)
    old.const_value = ir.tensor(array, name=old.name)
    return old


def _new(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value
