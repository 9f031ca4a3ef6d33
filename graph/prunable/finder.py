"""Finding the weights that can be pruned, wherever a graph keeps them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import onnx_ir as ir

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import Scope, StoredTensor, iterate_scopes, node_label, scoped
from onnx_unipts.graph.nodes import bodies, input_at, static_shape
from onnx_unipts.graph.prunable.axes import stored_axes
from onnx_unipts.graph.prunable.names import Exclusion
from onnx_unipts.graph.prunable.operands import KINDS, OPERANDS, Operand, in_groups
from onnx_unipts.graph.prunable.origins import Call, Origins
from onnx_unipts.graph.prunable.reasons import objection, stored_zero
from onnx_unipts.graph.prunable.weight import PrunableWeight

__all__ = ["find_prunable"]


def find_prunable(
    model: ir.Model,
    exclude: Sequence[str] = (),
    include: Collection[str] = (),
    only: Sequence[str] = (),
) -> list[PrunableWeight]:
    """List the weights of ``model`` in graph order, those that are not pruned with their reason.

    A weight is a stored tensor of Conv, ConvTranspose, Gemm or MatMul, directly or behind a chain
    of one-to-one operators (Identity, Transpose, Reshape, Squeeze, Unsqueeze, Flatten, Cast,
    QuantizeLinear to DequantizeLinear), in the main graph, a subgraph or a function. A tensor with
    several uses is listed once.

    ``exclude`` holds regular expressions searched for in the keys of weights and the names of their
    nodes; what they match is listed and not pruned, nor, if there are any, is what none of ``only``
    matches. ``include`` adds kinds that are not pruned otherwise: ``recurrent`` (LSTM, GRU, RNN),
    ``optional`` (Einsum, DeformConv, Attention) and ``quantised`` (bytes with one zero point).

    Raises `UsageError` for an invalid regular expression or an unknown kind.
    """
    exclusion = Exclusion(exclude, only)
    if unknown := set(include) - set(KINDS):
        raise UsageError(f"unknown kind of weight {min(unknown)!r}; known: {', '.join(KINDS)}")
    finder = _Finder(model, include)
    finder.visit("", model.graph, Call())
    return [exclusion.applied(weight) for weight in finder.weights.values()]


class _Finder:
    def __init__(self, model: ir.Model, include: Collection[str]) -> None:
        self.weights: dict[str, PrunableWeight] = {}
        self._include = include
        self._functions = model.functions
        self._scopes = {id(graph): scope for scope, graph in iterate_scopes(model)}
        self._origins = Origins(model)

    def visit(self, scope: str, graph: Scope, call: Call) -> None:
        """Add the weights of every node of ``graph``, of its subgraphs and called functions."""
        for node in graph:
            if function := self._functions.get(node.op_identifier()):
                called = self._origins.called(node, function, call)
                self.visit(self._scopes[id(function)], function, called)
                continue
            for operand in OPERANDS.get((node.domain, node.op_type), ()):
                self._add(scope, node, operand, call)
            for body in bodies(node):
                self._origins.enter(node, body)
                self.visit(self._scopes[id(body)], body, call)

    def _add(self, scope: str, node: ir.Node, operand: Operand, call: Call) -> None:
        value, data = input_at(node, operand.index), input_at(node, operand.data)
        if value is None:
            return
        origin, chain = self._origins.trace(value, call)
        stored = self._origins.stored.get(origin[0])
        if stored is None and not self._origins.is_constant(*origin):
            return
        constant_data = data is not None and self._origins.is_constant(data, call)
        if constant_data and node.op_type not in ("Conv", "ConvTranspose"):
            return
        if stored is None:
            weight = self._computed(value, call, origin[0], node)
        else:
            weight = self._stored_weight(stored, node, operand, chain, constant_data)
        nodes = (scoped(scope, node_label(node)),)
        self._merge(replace(weight, nodes=nodes, kind=operand.kind))

    def _merge(self, weight: PrunableWeight) -> None:
        """List a tensor once; it is pruned if any of its uses allows it."""
        known = self.weights.get(weight.key)
        if known is None:
            self.weights[weight.key] = weight
            return
        better = weight if weight.pruned and not known.pruned else known
        nodes = tuple(dict.fromkeys(known.nodes + weight.nodes))
        self.weights[weight.key] = replace(better, nodes=nodes)

    def _stored_weight(
        self,
        stored: StoredTensor,
        node: ir.Node,
        operand: Operand,
        chain: list[ir.Node],
        constant_data: bool,
    ) -> PrunableWeight:
        tensor = stored.tensor
        shape = tuple(tensor.shape.numpy())
        axes = stored_axes(shape, chain, self._origins.stored)
        out_axis = in_axis = None
        if axes is not None and len(axes) >= 2:
            out_axis, in_axis = (
                axes[axis] if axis is not None and axis < len(axes) else None
                for axis in operand.axes(node, len(axes))
            )
        weight = PrunableWeight(
            name=stored.value.name or "",
            scope=stored.scope,
            operator=node.op_type,
            nodes=(),
            shape=shape,
            dtype=tensor.dtype.name,
            count=math.prod(shape),
            out_axis=out_axis,
            in_axis=in_axis,
            pruned=True,
            trainable=None,
            reason="",
            chain=tuple(step.op_type for step in chain),
            in_groups=in_groups(node),
        )
        zero = stored_zero(stored, node, operand, chain, self._origins.stored)
        reason = objection(stored, weight, operand, axes, constant_data, zero, self._include)
        return replace(weight, pruned=not reason, reason=reason, zero=zero or 0)

    def _computed(
        self, operand: ir.Value, call: Call, origin: ir.Value, node: ir.Node
    ) -> PrunableWeight:
        """Describe a weight that the graph computes; it goes by the name of the operand."""
        producer = origin.producer()
        assert producer is not None
        generated = producer.op_type == "ConstantOfShape"
        shape = self._generated_shape(producer) if generated else static_shape(operand)
        dtype = operand.dtype or (ir.DataType.FLOAT if generated else None)
        how = "generated" if generated else "computed"
        return PrunableWeight(
            name=operand.name or "",
            scope=self._scopes.get(id(operand.graph), ""),
            operator=node.op_type,
            nodes=(),
            shape=shape or (),
            dtype=dtype.name if dtype is not None else "",
            count=math.prod(shape) if shape is not None else 0,
            out_axis=None,
            in_axis=None,
            pruned=False,
            trainable=None,
            reason=f"{how} by {producer.op_type} (node {node_label(producer)!r}), not stored",
            chain=tuple(step.op_type for step in self._origins.makers(operand, call)),
            computed=not generated,
        )

    def _generated_shape(self, node: ir.Node) -> tuple[int, ...] | None:
        value = input_at(node, 0)
        if value is None or (stored := self._origins.stored.get(value)) is None:
            return static_shape(node.outputs[0])
        return tuple(int(size) for size in stored.numpy())
