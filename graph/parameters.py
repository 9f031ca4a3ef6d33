"""The tensors of a graph that training may change, and binding them back as constants."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.model import stored_tensors

__all__ = ["PASSED", "bind", "companions"]

# Operators whose third input is a bias, those behind which an Add may hold one, and normalisations
# whose second and third inputs are trained.
BIASED = {"Conv", "ConvTranspose", "Gemm"}
WEIGHTED = {*BIASED, "MatMul"}
AFFINE = {"LayerNormalization", "GroupNormalization", "InstanceNormalization"}
# Operators that a tensor may pass on its way to the operator that it is a parameter of.
PASSED = {
    "Cast",
    "DequantizeLinear",
    "Flatten",
    "Identity",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}

_Tensors = Mapping[str, ir.TensorProtocol]


def companions(model: ir.Model, weights: Collection[str]) -> list[str]:
    """Return the float tensors of the main graph that are trained beside ``weights``.

    The biases of their operators, a vector added behind one of these, the scales and biases of
    normalisations, and all four tensors of every BatchNormalization; each may reach its operator
    through an Identity or another operator that only rearranges it. Exporters merge equal tensors:
    what is trained at one place and a mean or variance at another stays as it is, and with it all
    four of a BatchNormalization that has it.
    """
    floats = {
        key: stored.tensor
        for key, stored in stored_tensors(model).items()
        if stored.tensor.dtype.is_floating_point()
    }
    trained = {name for node in model.graph for name in _trained_by(node, weights, floats)}
    measured = {name for node in model.graph for name in _measured_by(node, floats)}
    for name in trained & measured:
        del floats[name]
    names = (
        name
        for node in model.graph
        for name in (*_trained_by(node, weights, floats), *_measured_by(node, floats))
    )
    return list(dict.fromkeys(name for name in names if name not in weights))


def bind(model: ir.Model, tensors: Mapping[str, np.ndarray]) -> ir.Model:
    """Return a copy of ``model`` in which the inputs named in ``tensors`` are constants."""
    copy = model.clone()
    graph = copy.graph
    for value in list(graph.inputs):
        name = str(value.name)
        if name in tensors:
            graph.inputs.remove(value)
            value.const_value = ir.tensor(tensors[name], name=name)
            graph.register_initializer(value)
    return copy


def _normalizing(node: ir.Node, floats: _Tensors) -> list[str]:
    """Return the four tensors of a BatchNormalization, if all of them are stored."""
    if node.op_type != "BatchNormalization" or node.domain:
        return []
    tensors = _origins(node)[1:5]
    return tensors if all(name in floats for name in tensors) else []


def _measured_by(node: ir.Node, floats: _Tensors) -> list[str]:
    return _normalizing(node, floats)[2:]


def _trained_by(node: ir.Node, weights: Collection[str], floats: _Tensors) -> list[str]:
    if node.domain:
        return []
    if node.op_type == "BatchNormalization":
        return _normalizing(node, floats)[:2]
    if node.op_type in AFFINE:
        return [name for name in _origins(node)[1:3] if name in floats]
    if node.op_type in BIASED and _has_weight(node, weights):
        return [name for name in _origins(node)[2:3] if name in floats]
    if node.op_type == "Add" and any(_is_weighted(value, weights) for value in node.inputs):
        return [name for name in _origins(node) if name in floats and _is_vector(floats[name])]
    return []


def _is_weighted(value: ir.Value | None, weights: Collection[str]) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type in WEIGHTED and _has_weight(producer, weights)


def _has_weight(node: ir.Node, weights: Collection[str]) -> bool:
    return any(name in weights for name in _origins(node)[:2])


def _is_vector(tensor: ir.TensorProtocol) -> bool:
    return len(tensor.shape) > 0 and sum(size != 1 for size in tensor.shape.numpy()) <= 1


def _origins(node: ir.Node) -> list[str]:
    """Return the name of what each input was before it was passed on."""
    return [_origin(value) for value in node.inputs]


def _origin(value: ir.Value | None) -> str:
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type not in PASSED:
            break
        value = producer.inputs[0]
    return "" if value is None else str(value.name)
