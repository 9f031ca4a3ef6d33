"""Folding the BatchNormalizations of a finished model into the convolutions before them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.names import Names, value_names
from onnx_unipts.graph.nodes import input_at
from onnx_unipts.graph.normalization.folding import folded
from onnx_unipts.graph.normalization.found import EPSILON

__all__ = ["fold_normalizations"]


def fold_normalizations(model: ir.Model) -> int:
    """Fold, in place, every BatchNormalization of the main graph that follows a Conv; count them.

    Filter and bias are constants, nothing else sees the output of the Conv, and the four tensors
    of the normalisation are constants. The filter keeps its name where no other node uses it, and
    its zeros, which are positive afterwards. A normalisation stays where its product with the
    filter is more or less than the filter's dtype can hold.
    """
    names, count = Names(value_names(model.graph)), 0
    for node in list(model.graph):
        conv = _convolution(node)
        if conv is not None and _fold(model.graph, conv, node, names):
            count += 1
    return count


def _convolution(norm: ir.Node) -> ir.Node | None:
    """Return the Conv before ``norm`` if nothing else sees what lies between."""
    if norm.op_type != "BatchNormalization" or norm.domain:
        return None
    entering = norm.inputs[0]
    conv = entering.producer() if entering is not None else None
    if conv is None or conv.op_type != "Conv" or conv.domain:
        return None
    assert entering is not None
    if len(entering.uses()) != 1 or entering.is_graph_output():
        return None
    training = norm.attributes.get("training_mode")
    if training is not None and training.value:
        return None
    return None if any(output.uses() for output in norm.outputs[1:]) else conv


def _fold(graph: ir.Graph, conv: ir.Node, norm: ir.Node, names: Names) -> bool:
    filters, bias, of_norm = conv.inputs[1], input_at(conv, 2), norm.inputs[1:5]
    weight, offset, *tensors = (_constant(value) for value in (filters, bias, *of_norm))
    given = [tensor for tensor in tensors if tensor is not None]
    if weight is None or len(given) < len(of_norm) or (bias is not None and offset is None):
        return False
    epsilon = norm.attributes.get_float("epsilon", EPSILON)
    exact = folded(weight, 0.0 if offset is None else offset, given, epsilon)
    with np.errstate(over="ignore"):
        scaled, moved = (array.astype(weight.dtype) for array in exact)
    if not (np.isfinite(scaled).all() and np.isfinite(moved).all()):
        return False
    if ((scaled == 0) & (exact[0] != 0)).any():
        return False
    scaled[weight == 0] = 0
    assert filters is not None
    output = norm.outputs[0]
    conv.resize_inputs(3)
    conv.replace_input_with(1, _store(graph, filters, scaled, names, f"{output.name}/weight"))
    conv.replace_input_with(2, _new(graph, names.fresh(f"{output.name}/bias"), moved))
    between = conv.outputs[0]
    output.replace_all_uses_with(between, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
    between.name, between.shape, between.type = output.name, output.shape, output.type
    for value in (filters, bias, *of_norm):
        if value is not None and value.is_initializer() and _is_unused(value):
            del graph.initializers[value.name]  # type: ignore[arg-type]
    return True


def _is_unused(value: ir.Value) -> bool:
    return not value.uses() and not value.is_graph_output()


def _constant(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of an initializer that callers cannot override."""
    if value is None or value.is_graph_input() or not value.is_initializer():
        return None
    return None if value.const_value is None else value.const_value.numpy()


def _store(graph: ir.Graph, old: ir.Value, array: np.ndarray, names: Names, name: str) -> ir.Value:
    """Write ``array`` over ``old`` if only one node uses it, else under ``name``."""
    if len(old.uses()) > 1 or old.is_graph_output():
        return _new(graph, names.fresh(name), array)
    old.const_value = ir.tensor(array, name=old.name)
    return old


def _new(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value
