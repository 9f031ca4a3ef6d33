"""Adding constants to the biases of operators, and giving nodes constants of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.names import Names, value_names
from onnx_unipts.graph.nodes import input_at

if TYPE_CHECKING:
    from onnx_unipts.graph.channels.trace import Trace

__all__ = ["add_to_bias", "following_bias", "set_constant"]


def add_to_bias(
    trace: Trace, node: ir.Node, index: int, amount: np.ndarray, leaving: np.ndarray | None
) -> None:
    """Add ``amount``, one per position of ``leaving``, to input ``index`` of this node alone."""
    old = trace.constant(input_at(node, index))
    if old is None:
        weight = trace.constant(node.inputs[1])
        assert weight is not None
        new = amount.astype(weight.dtype)
    else:
        new = (old.astype(np.float64) + amount).astype(old.dtype)
    node.resize_inputs(max(index + 1, len(node.inputs)))
    value = set_constant(trace, node, index, new)
    trace.adopt(value, (*[None] * (new.ndim - 1), leaving))


def following_bias(node: ir.Node, trace: Trace) -> tuple[ir.Node, int] | None:
    """Return the Add of a constant vector that alone takes the output of ``node``, and its operand.

    The vector has one element per position of the last axis.
    """
    uses = node.outputs[0].uses()
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None
    user, index = next(iter(uses))
    if user.op_type != "Add" or user.domain:
        return None
    constant = trace.constant(user.inputs[1 - index])
    if constant is None or not constant.ndim:
        return None
    fits = constant.size == constant.shape[-1] == trace.dims(node.outputs[0])[-1]
    return (user, 1 - index) if fits else None


def set_constant(trace: Trace, node: ir.Node, index: int, array: np.ndarray) -> ir.Value:
    """Make ``array`` input ``index`` of ``node``; return the new initializer, used nowhere else.

    It takes the name of the old one where that is used nowhere else either.
    """
    old, graph = node.inputs[index], node.graph
    assert isinstance(graph, ir.Graph)
    name = f"{node.name or node.outputs[0].name}/constant"
    node.replace_input_with(index, None)
    if old is not None and old.is_initializer() and not old.uses() and not _is_public(old):
        name = str(old.name)
        del graph.initializers[name]
    elif old is not None:
        _remove_unused(old)
    name = Names(value_names(trace.model.graph)).fresh(name)
    tensor = ir.tensor(array, name=name)
    shape, kind = ir.Shape(array.shape), ir.TensorType(tensor.dtype)
    value = ir.Value(name=name, const_value=tensor, shape=shape, type=kind)
    graph.register_initializer(value)
    node.replace_input_with(index, value)
    return value


def _remove_unused(value: ir.Value) -> None:
    """Remove the nodes that made ``value``, as far as nothing takes what they make."""
    pending = [value.producer()]
    while pending:
        node = pending.pop()
        if node is None or node.graph is None:
            continue
        if any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        pending += [v.producer() for v in node.inputs if v is not None]
        node.graph.remove(node, safe=True)


def _is_public(value: ir.Value) -> bool:
    return value.is_graph_input() or value.is_graph_output()
