"""Sequence inputs: one in the file, in memory as many tensor inputs and what makes it of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
import onnx_ir as ir

from onnx_unipts.graph.names import Names, value_names
from onnx_unipts.graph.nodes import input_at

__all__ = [
    "copy_sequences",
    "declared_inputs",
    "forget_sequences",
    "gather_sequences",
    "holds_sequences",
    "sequence_of",
    "spread_sequences",
]

# On the inputs that stand for a sequence: its value info, serialised.
MARK = "sequence"
# What a model whose graph does not say it is fed.
FEW = 2
# Operators whose output has the shape of their first input.
UNCHANGED = {"Cast", "Elu", "Identity", "LeakyRelu", "Relu", "SequenceAt", "Sigmoid", "Tanh"}

Axis = int | ir.SymbolicDim | None


def spread_sequences(model: ir.Model, plain: ir.Model) -> None:
    """Turn each input of ``model`` that is a sequence of tensors into tensor inputs; in place.

    Those of ``x`` are called ``x[0]``, ``x[1]``; a SequenceConstruct makes ``x`` of them. There are
    as many as the graph reads: up to the last position that it looks at, or as many as fill what
    reads their concatenation; else two. ``plain`` is ``model`` itself, or that with its weights
    unpacked. `gather_sequences` undoes it in what is written to a file.
    """
    inputs = zip(list(model.graph.inputs), list(plain.graph.inputs), strict=True)
    for sequence, read in inputs:
        kind = sequence.type
        if isinstance(kind, ir.SequenceType) and isinstance(kind.elem_type, ir.TensorType):
            count = _count(read)
            _spread(model.graph, sequence, kind.elem_type, [_shape(read, count)] * count)


def gather_sequences(model: ir.Model, proto: onnx.ModelProto) -> None:
    """Give ``proto``, made of ``model``, the inputs that the file of ``model`` has; in place."""
    marks = _marks(model)
    if not marks:
        return
    inputs = {info.name: info for info in proto.graph.input}
    names = dict.fromkeys(marks.get(name, name) for name in inputs)
    infos = [
        onnx.ValueInfoProto.FromString(name) if isinstance(name, bytes) else _copy(inputs[name])
        for name in names
    ]
    del proto.graph.input[:]
    proto.graph.input.extend(infos)
    made = {info.name for info in infos}
    for index in reversed(range(len(proto.graph.node))):
        if proto.graph.node[index].output[0] in made:
            del proto.graph.node[index]
    for index in reversed(range(len(proto.graph.value_info))):
        if proto.graph.value_info[index].name in made:
            del proto.graph.value_info[index]


def declared_inputs(model: ir.Model) -> list[ir.Value]:
    """Return the inputs as the file of ``model`` lists them."""
    declared: dict[str | bytes, ir.Value] = {}
    for value in model.graph.inputs:
        mark = value.meta.get(MARK)
        declared.setdefault(mark or str(value.name), value if mark is None else _declared(mark))
    return list(declared.values())


def sequence_of(value: ir.Value) -> str:
    """Return the name of the sequence that the input ``value`` is an element of, or nothing."""
    mark = value.meta.get(MARK)
    return "" if mark is None else onnx.ValueInfoProto.FromString(mark).name


def holds_sequences(model: ir.Model) -> bool:
    """Tell whether the file of ``model`` has sequence inputs."""
    return bool(_marks(model))


def forget_sequences(model: ir.Model) -> ir.Model:
    """Return ``model``, or a copy that is written with the tensor inputs that it has in memory."""
    if not holds_sequences(model):
        return model
    copy = model.clone()
    for value in copy.graph.inputs:
        value.meta.pop(MARK, None)
    return copy


def copy_sequences(model: ir.Model, source: ir.Model) -> None:
    """Have ``model`` written with the sequence inputs of ``source``, which it is made of."""
    marks = _marks(source)
    for value in model.graph.inputs:
        if value.name in marks:
            value.meta[MARK] = marks[value.name]


def _marks(model: ir.Model) -> dict[str, bytes]:
    return {str(v.name): v.meta[MARK] for v in model.graph.inputs if MARK in v.meta}


def _copy(info: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """Keep ``info`` apart from the list that is about to be emptied."""
    return onnx.ValueInfoProto.FromString(info.SerializeToString())


def _declared(mark: bytes) -> ir.Value:
    return ir.serde.deserialize_value_info_proto(onnx.ValueInfoProto.FromString(mark), None)


def _spread(
    graph: ir.Graph,
    sequence: ir.Value,
    kind: ir.TensorType,
    shapes: Sequence[Sequence[Axis] | None],
) -> None:
    mark = ir.serde.serialize_value(sequence).SerializeToString()
    names = Names(value_names(graph))
    elements = []
    for index, shape in enumerate(shapes):
        name = names.fresh(f"{sequence.name}[{index}]")
        dims = None if shape is None else ir.Shape(shape)
        element = ir.Value(name=name, type=ir.TensorType(kind.dtype), shape=dims)
        element.meta[MARK] = mark
        elements.append(element)
    node = ir.node("SequenceConstruct", elements)
    made = node.outputs[0]
    made.type, made.shape = sequence.type, sequence.shape
    sequence.replace_all_uses_with(made, replace_graph_outputs=True)
    place = graph.inputs.index(sequence)
    graph.inputs[place : place + 1] = elements
    made.name = sequence.name
    graph.insert_before(graph[0], node)


def _count(sequence: ir.Value) -> int:
    """Return how many elements of ``sequence`` the graph reads."""
    positions = [_last_position(node) for node in _readers(sequence, "SequenceAt")]
    joined = [_joined_count(node, sequence) for node in _readers(sequence, "ConcatFromSequence")]
    return max((n for n in (*positions, *joined) if n), default=FEW)


def _readers(sequence: ir.Value, operator: str) -> Iterable[ir.Node]:
    return [n for n, index in sequence.uses() if n.op_type == operator and not index]


def _last_position(node: ir.Node) -> int:
    """Return how many elements there must be for SequenceAt to find one; 0 if that is not known."""
    position = None if node.inputs[1] is None else ir.convenience.get_const_tensor(node.inputs[1])
    if position is None or position.size != 1:
        return 0
    number = int(position.numpy().reshape(-1)[0])
    return number + 1 if number >= 0 else -number


def _joined_count(node: ir.Node, sequence: ir.Value) -> int:
    """Return how many elements fill what reads their concatenation; 0 if that is not known."""
    read = _read_shape(node.outputs[0])
    axis = node.attributes.get_int("axis", 0)
    total = _size(read, axis)
    if not isinstance(total, int):
        return 0
    if node.attributes.get_int("new_axis", 0):
        return total
    each = _size(sequence.shape, axis)
    if isinstance(each, int) and each > 0:
        return total // each
    return next((n for n in range(FEW, total + 1) if total % n == 0), 1)


def _size(shape: Sequence[Axis] | ir.Shape | None, axis: int) -> Axis:
    """Return the length of an ``axis`` that may not be there."""
    return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None


def _shape(sequence: ir.Value, count: int) -> list[Axis] | None:
    """Return the shape of an element: what the file says, then what the graph reads."""
    read = _element_shape(sequence, count)
    if sequence.shape is None or read is None or len(sequence.shape) != len(read):
        return read if sequence.shape is None else list(sequence.shape)
    return [
        size if axis and not isinstance(dim, int) and size is not None else dim
        for axis, (dim, size) in enumerate(zip(sequence.shape, read, strict=True))
    ]


def _element_shape(sequence: ir.Value, count: int) -> list[Axis] | None:
    for node in _readers(sequence, "SequenceAt"):
        if (read := _read_shape(node.outputs[0])) is not None:
            return read
    for node in _readers(sequence, "ConcatFromSequence"):
        if (read := _read_shape(node.outputs[0])) is not None:
            return _divided(read, node, count)
    return None


def _divided(read: list[Axis], node: ir.Node, count: int) -> list[Axis]:
    """Return the shape of one of ``count`` tensors that ``node`` joins to one of shape ``read``."""
    axis = node.attributes.get_int("axis", 0)
    if node.attributes.get_int("new_axis", 0):
        del read[axis]
        return read
    total = _size(read, axis)
    if total is not None:
        read[axis] = total // count if isinstance(total, int) and total % count == 0 else None
    return read


def _read_shape(value: ir.Value) -> list[Axis] | None:
    """Return what the weight of the layer that reads ``value`` says of its shape."""
    for node, index in value.uses():
        if index or node.domain:
            continue
        if node.op_type in UNCHANGED:
            read = _read_shape(node.outputs[0])
        else:
            weight = input_at(node, 1)
            stored = None if weight is None else ir.convenience.get_const_tensor(weight)
            read = None if stored is None else _layer_shape(node, list(stored.shape.numpy()))
        if read is not None:
            return read
    return None


def _layer_shape(node: ir.Node, weight: list[int]) -> list[Axis] | None:
    rank = len(weight)
    if node.op_type == "Conv" and rank > 2:
        return [None, weight[1] * node.attributes.get_int("group", 1), *[None] * (rank - 2)]
    if node.op_type == "Gemm" and not node.attributes.get_int("transA", 0):
        return [None, weight[node.attributes.get_int("transB", 0)]]
    if node.op_type == "MatMul" and rank == 2:
        return [None, weight[0]]
    if node.op_type in ("GRU", "LSTM", "RNN") and rank == 3:
        return [None, None, weight[2]]
    return None
