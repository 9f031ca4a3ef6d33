"""Computing in single precision what a model stores in another."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.equivalence import Equivalence
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import Scope, iterate_scopes, stored_tensors

__all__ = ["in_single_precision"]

SINGLE = ir.DataType.FLOAT
CONVERTED = {ir.DataType.BFLOAT16, ir.DataType.FLOAT16, ir.DataType.DOUBLE}
# Attributes that hold the element type of an operator's output.
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def in_single_precision(model: ir.Model, parameters: Collection[str]) -> ir.Model:
    """Return ``model``, or a copy that computes in FLOAT if it does not from end to end.

    That is where one of the ``parameters`` is stored in another type, or an output has one. The
    inputs of the copy keep their types, and its outputs become FLOAT. Where the outputs alone are
    of another type and the copy computes something else, ``model`` it is.

    Raises `UnsupportedModelError` for a parameter that is neither FLOAT, FLOAT16, BFLOAT16 nor
    DOUBLE, and where the copy computes something else.
    """
    stored = stored_tensors(model)
    others = {name: stored[name].tensor.dtype for name in parameters}
    others = {name: dtype for name, dtype in others.items() if dtype != SINGLE}
    if not others and not any(output.dtype in CONVERTED for output in model.graph.outputs):
        return model
    for name, dtype in others.items():
        if dtype not in CONVERTED:
            raise UnsupportedModelError(
                f"{name} is stored as {dtype.name}; trained are FLOAT, FLOAT16, BFLOAT16 and "
                "DOUBLE: export the model in one of these"
            )
    single = _converted(model)
    check = Equivalence(model)
    objection = check.objection(_with_types_of(model, single)) if check.loads else None
    if objection is None:
        return single
    if others:
        name, dtype = next(iter(others.items()))
        raise UnsupportedModelError(
            f"{name} is stored as {dtype.name}, and in FLOAT the model does not compute the same "
            f"({objection}); export the model in float32"
        )
    return model


def _converted(model: ir.Model) -> ir.Model:
    single = model.clone()
    graph = single.graph
    fed = [value for value in graph.inputs if value.name not in graph.initializers]
    types = {value: value.type for value in fed}
    for _, scope in iterate_scopes(single):
        for value in _values(scope):
            _convert(value)
        for node in scope:
            _convert_attributes(node)
    for value in fed:
        if value.type != types[value]:
            value.type = types[value]
            _cast_input(graph, value)
    return single


def _values(scope: Scope) -> Iterator[ir.Value]:
    yield from scope.inputs
    if isinstance(scope, ir.Graph):
        yield from scope.initializers.values()
    for node in scope:
        yield from node.outputs


def _convert(value: ir.Value) -> None:
    tensor = value.const_value
    if tensor is not None and tensor.dtype in CONVERTED:
        value.const_value = _single(tensor)
    if isinstance(value.type, ir.TensorType) and value.dtype in CONVERTED:
        value.type = ir.TensorType(SINGLE)


def _convert_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype in CONVERTED:
                node.attributes[name] = ir.AttrTensor(name, _single(tensor))
        elif name in TYPE_ATTRIBUTES and attribute.value in CONVERTED:
            node.attributes[name] = ir.AttrInt64(name, SINGLE)


def _single(tensor: ir.TensorProtocol) -> ir.Tensor:
    return ir.Tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _cast_input(graph: ir.Graph, value: ir.Value) -> None:
    cast = ir.node("Cast", [value], {"to": SINGLE})
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(SINGLE), value.shape
    value.replace_all_uses_with(cast.outputs[0], replace_graph_outputs=True)
    cast.replace_input_with(0, value)
    graph.insert_before(graph[0], cast)


def _with_types_of(model: ir.Model, single: ir.Model) -> ir.Model:
    """Return a copy of ``single`` whose outputs have the types of those of ``model``."""
    copy = single.clone()
    for index, (value, before) in enumerate(
        zip(copy.graph.outputs, model.graph.outputs, strict=True)
    ):
        if value.dtype != before.dtype and before.dtype is not None:
            cast = ir.node("Cast", [value], {"to": before.dtype})
            cast.outputs[0].type, cast.outputs[0].shape = before.type, value.shape
            copy.graph.append(cast)
            copy.graph.outputs[index] = cast.outputs[0]
    return copy
