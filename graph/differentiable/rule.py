"""What a rewrite rule is: a function of a node and a `Builder`, filed in `RULES` by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

from onnx_unipts.graph.model import holds_map
from onnx_unipts.graph.names import Names
from onnx_unipts.graph.reductions import reduced_axes
from onnx_unipts.graph.registry import Registry

__all__ = [
    "RULES",
    "Builder",
    "CannotRewriteError",
    "Result",
    "Rule",
    "infer",
    "rule_name",
]

Result: TypeAlias = "ir.Value | Sequence[ir.Value | None] | str | None"
"""What a rule returns.

The value that takes the place of the node's output, or one per output (None for an unused one);
a string: the reason why the node cannot be rewritten; None: its gradient is right as it stands.
"""

Rule: TypeAlias = "Callable[[ir.Node, Builder], Result]"

RULES: Registry[Rule] = Registry("rewrite rule", "onnx_unipts.graph.differentiable")
"""All rules by operator, ``HardSwish`` or ``com.microsoft.FusedConv``.

The first line of a rule's docstring is what the operator becomes; it stands in the log.
"""

LIKE_FIRST_INPUT = {
    f"com.microsoft.{name}" for name in ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")
}
SMALL = 1024  # constants up to this many elements take part in shape inference


class CannotRewriteError(Exception):
    """A rule needs a fact that the graph does not give, such as a static shape."""


def rule_name(node: ir.Node) -> str:
    """Return the name under which a rule for ``node`` is registered."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


class Builder:
    """Makes the nodes that replace ``node``; any ONNX operator is a method of it.

    ``op.Clip(op.Mul(x, 0.5), 0.0, 1.0)`` makes two nodes. An operand is a value of the graph, None
    for one left out, or a constant: floats take the float type of the node, a list of integers is
    an int64 tensor. Attributes are keyword arguments; ``_outputs`` is the number of outputs, and
    ``_right`` says that no other rule shall touch the node. Each new value gets its type and shape
    by inference.
    """

    def __init__(self, node: ir.Node, graph: ir.Graph, names: Names) -> None:
        self.nodes: list[ir.Node] = []
        self.right: set[ir.Node] = set()
        self.initializers: list[ir.Value] = []
        self.opset = graph.opset_imports[""]
        self.dtype = _float_type(node)
        self._node = node
        self._names = names

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return lambda *operands, **attributes: self._make(op_type, operands, attributes)

    def inputs(self, count: int) -> list[Any]:
        """Return the first ``count`` inputs of the node, None for those left out."""
        given = list(self._node.inputs[:count])
        return given + [None] * (count - len(given))

    def shape(self, value: ir.Value, skip: int = 0) -> tuple[int, ...]:
        """Return the static shape of ``value``, without its first ``skip`` dimensions.

        Raises `CannotRewriteError` if a dimension is unknown.
        """
        dims = self.dims(value)[skip:]
        if any(dim is None for dim in dims):
            raise CannotRewriteError(f"the shape of {value.name} is not static")
        return tuple(dim for dim in dims if dim is not None)

    def dims(self, value: ir.Value) -> tuple[int | None, ...]:
        """Return the shape of ``value``, None for an unknown dimension; the rank must be known."""
        if value.shape is None:
            raise CannotRewriteError(f"the rank of {value.name} is unknown")
        return tuple(dim if isinstance(dim, int) else None for dim in value.shape)

    def rank(self, value: ir.Value) -> int:
        """Return the number of dimensions of ``value``."""
        return len(self.dims(value))

    def is_constant(self, value: ir.Value | None) -> bool:
        """Say whether ``value`` is stored in the model (also when it is left out)."""
        return value is None or ir.convenience.get_const_tensor(value) is not None

    def constant(self, value: ir.Value) -> np.ndarray:
        """Return the stored array of ``value``; `CannotRewriteError` if it is computed."""
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:
            raise CannotRewriteError(f"{value.name} is not constant")
        return tensor.numpy()

    def used(self, index: int) -> bool:
        """Say whether anything reads output ``index`` of the node."""
        if index >= len(self._node.outputs):
            return False
        output = self._node.outputs[index]
        return bool(output.uses()) or output.is_graph_output()

    def axes(self, rank: int) -> list[int]:
        """Return the sorted axes of the reduction of an input that has ``rank`` axes.

        Raises `CannotRewriteError` if they are computed.
        """
        axes = reduced_axes(self._node, rank)
        if axes is None:
            raise CannotRewriteError(f"{self.inputs(2)[1].name} is not constant")
        return axes

    def reduce(self, op_type: str, x: ir.Value, axes: Sequence[int], keepdims: int = 1) -> Any:
        """Return ReduceSum, ReduceMean ... of ``x``: axes are an input or an attribute by opset."""
        if not axes:
            return x
        if self.opset >= (13 if op_type == "ReduceSum" else 18):
            return self._make(op_type, (x, list(axes)), {"keepdims": keepdims})
        return self._make(op_type, (x,), {"axes": list(axes), "keepdims": keepdims})

    def cast_like(self, x: ir.Value, other: ir.Value) -> Any:
        """Return ``x`` as the type of ``other``."""
        assert other.dtype is not None
        return self.Cast(x, to=other.dtype)

    def truncate(self, x: ir.Value) -> Any:
        """Return ``x`` rounded towards zero; no gradient passes through a Cast to an integer."""
        return self.cast_like(self.Cast(x, to=ir.DataType.INT64), x)

    def stop(self, x: ir.Value) -> Any:
        """Return ``x``, which no gradient passes, to an absolute precision of 1e-9 up to 8e9."""
        double = self.Cast(x, to=ir.DataType.DOUBLE)
        steps = self.Cast(self.Mul(double, self._store(np.array(2.0**30))), to=ir.DataType.INT64)
        steps.dtype = ir.DataType.INT64  # also where the type of x is unknown
        back = self.Mul(self.Cast(steps, to=ir.DataType.DOUBLE), self._store(np.array(2.0**-30)))
        return self.Cast(back, to=x.dtype or self.dtype)

    def adopt(self, node: ir.Node) -> None:
        """Take a node that was made elsewhere: names that are free, types and shapes inferred.

        Raises `CannotRewriteError` where the operator does not take what it is given.
        """
        node.name = self._names.fresh(f"{self._node.name or self._node.op_type}/{node.op_type}")
        for index, output in enumerate(node.outputs):
            output.name = self._names.fresh(f"{node.name}_output_{index}")
            output.shape = None
        try:
            infer(node, self.opset)
        except Exception as error:
            raise CannotRewriteError(f"{node.op_type} in it does not fit: {error}") from error
        self.nodes.append(node)

    def adopt_constant(self, value: ir.Value) -> None:
        """Take a stored tensor of another graph under a name that is free."""
        value.name = self._names.fresh(f"{self._node.name or self._node.op_type}/{value.name}")
        self.initializers.append(value)

    def value(self, operand: Any) -> ir.Value | None:
        """Return ``operand`` as a value of the graph, stored as an initializer if a constant."""
        if operand is None or isinstance(operand, ir.Value):
            return operand
        array = np.asarray(operand)
        if array.dtype.kind == "f":
            array = array.astype(np.int64 if array.size == 0 else self.dtype.numpy())
        return self._store(array)

    def named_constant(self, name: str, number: float) -> ir.Value:
        """Return ``number``, in the float type of the node, stored under a name of its own."""
        return self._store(np.asarray(number, self.dtype.numpy()), name)

    def _store(self, array: np.ndarray, kind: str = "constant") -> ir.Value:
        name = self._names.fresh(f"{self._node.name or self._node.op_type}/{kind}")
        tensor = ir.tensor(array, name=name)
        value = ir.val(name, tensor.dtype, tuple(array.shape), const_value=tensor)
        self.initializers.append(value)
        return value

    def _make(self, op_type: str, operands: Sequence[Any], attributes: dict[str, Any]) -> Any:
        outputs = attributes.pop("_outputs", 1)
        right = attributes.pop("_right", op_type == self._node.op_type)
        name = self._names.fresh(f"{self._node.name or self._node.op_type}/{op_type}")
        node = ir.node(
            op_type,
            [self.value(operand) for operand in operands],
            {key: value for key, value in attributes.items() if value is not None},
            num_outputs=outputs,
            name=name,
        )
        for index, output in enumerate(node.outputs):
            output.name = self._names.fresh(f"{name}_output_{index}")
        infer(node, self.opset)
        self.nodes.append(node)
        if right:
            self.right.add(node)
        return node.outputs[0] if outputs == 1 else node.outputs


def _float_type(node: ir.Node) -> ir.DataType:
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.dtype is not None and value.dtype.is_floating_point():
            return value.dtype
    return ir.DataType.FLOAT


def infer(node: ir.Node, opset: int) -> None:
    """Set types and shapes of a node's outputs as far as its operator's schema tells; not maps."""
    inputs = {value.name: value for value in node.inputs if value is not None}
    if any(value.type is None for value in inputs.values()):
        return
    types = {name: _type_proto(value) for name, value in inputs.items()}
    data = {name: proto for name, value in inputs.items() if (proto := _small_constant(value))}
    if rule_name(node) in LIKE_FIRST_INPUT:
        first = next(iter(inputs.values()))
        node.outputs[0].type, node.outputs[0].shape = first.type, first.shape
        return
    if not onnx.defs.has(node.op_type, opset, node.domain):
        return  # an operator of onnxruntime's own
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    inferred = onnx.shape_inference.infer_node_outputs(
        schema,
        ir.to_proto(node),
        types,
        data,
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    for output in node.outputs:
        proto = inferred.get(output.name)
        if proto is None or holds_map(proto):
            continue
        output.type = ir.serde.deserialize_type_proto_for_type(proto)
        output.shape = ir.serde.deserialize_type_proto_for_shape(proto)


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    assert value.type is not None
    proto = ir.serde.serialize_type(value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto


def _small_constant(value: ir.Value) -> onnx.TensorProto | None:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.size > SMALL:
        return None
    return ir.to_proto(tensor)
