"""The tensors of a graph that training may change, and binding them back as constants."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

__all__ = ["bind", "companions"]

# Operators whose third input is a bias, and normalisations whose second and third are trained.
BIASED = {"Conv", "ConvTranspose", "Gemm"}
AFFINE = {"LayerNormalization", "GroupNormalization", "InstanceNormalization"}


def companions(model: ir.Model, weights: Collection[str]) -> list[str]:
    """Return the float tensors of the main graph that are trained beside ``weights``.

    The biases of their operators, a constant vector added behind a MatMul, the scales and biases of
    normalisations, and all four tensors of every BatchNormalization.
    """
    names = (
        str(value.name)
        for node in model.graph
        for value in _trained_inputs(node, weights)
        if value is not None and _is_float_constant(value)
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


def _trained_inputs(node: ir.Node, weights: Collection[str]) -> list[ir.Value | None]:
    if node.domain not in ("", "ai.onnx"):
        return []
    if node.op_type == "BatchNormalization":
        return list(node.inputs[1:5])
    if node.op_type in AFFINE:
        return list(node.inputs[1:3])
    if node.op_type in BIASED:
        return list(node.inputs[2:3])
    if node.op_type == "Add" and any(_is_weighted_matmul(v, weights) for v in node.inputs):
        return list(node.inputs)
    return []


def _is_weighted_matmul(value: ir.Value | None, weights: Collection[str]) -> bool:
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != "MatMul":
        return False
    return any(v is not None and v.name in weights for v in producer.inputs)


def _is_float_constant(value: ir.Value) -> bool:
    if value.dtype != ir.DataType.FLOAT:
        return False
    producer = value.producer()
    return value.is_initializer() or (producer is not None and producer.op_type == "Constant")
