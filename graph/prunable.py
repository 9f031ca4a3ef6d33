"""Finding the weights that can be pruned, wherever a graph keeps them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from onnx_unipts.graph.basis import describe_basis
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import Scope, StoredTensor, iterate_scopes, node_label, stored_tensors

__all__ = ["KINDS", "PrunableWeight", "find_prunable", "matching"]


# Kinds of weights that are pruned by choice.
KINDS = ("optional", "quantised", "recurrent")


@dataclass(frozen=True)
class PrunableWeight:
    """One stored tensor that feeds the weight operand of some node.

    Attributes:
        name: the tensor's own name: of the initializer, or of the output of its Constant node.
        scope: the path of the subgraph or function that holds it, empty for the main graph.
        operator: what its first use is: Conv, ConvTranspose, Gemm, MatMul, LSTM, ...
        nodes: every node that uses it as a weight, ``scope:name`` within a subgraph or function; a
            node without a name goes by its first output.
        shape: as stored; empty where the tensor is computed by the graph.
        dtype: as stored, by its ONNX name (FLOAT, FLOAT16, ...).
        count: the number of elements.
        out_axis: the axis of ``shape`` that runs over output channels; None where none does.
        in_axis: the axis of ``shape`` that runs over input channels (of one group).
        pruned: whether the tensor is to be pruned.
        trainable: whether gradients reach it; None until training has found out.
        reason: why it is not pruned; empty where it is.
        chain: the operators between the stored tensor and the weight operand.
        in_groups: how many groups of channels share ``in_axis``, each summed by itself: those of a
            grouped ConvTranspose, else 1.
        zero: what is stored for zero: the zero point of a quantised tensor, 0 for all others.
    """

    name: str
    scope: str
    operator: str
    nodes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    count: int
    out_axis: int | None
    in_axis: int | None
    pruned: bool
    trainable: bool | None
    reason: str
    chain: tuple[str, ...]
    in_groups: int = 1
    zero: int = 0

    @property
    def key(self) -> str:
        """``name``, or ``scope:name`` in a subgraph or function; unique within the model."""
        return _key(self.scope, self.name)


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
    patterns = [_compile(pattern) for pattern in exclude]
    wanted = [_compile(pattern, "only") for pattern in only]
    if unknown := set(include) - set(KINDS):
        raise UsageError(f"unknown kind of weight {min(unknown)!r}; known: {', '.join(KINDS)}")
    finder = _Finder(model, include)
    finder.visit("", model.graph, _Frame())
    weights = [_excluded(weight, patterns) for weight in finder.weights.values()]
    return [_left_out(weight, wanted) for weight in weights] if only else weights


def matching(
    weights: Sequence[PrunableWeight], pattern: str, what: str = "pattern"
) -> list[PrunableWeight]:
    """Return those of ``weights`` in whose key or node names ``pattern`` is found.

    Raises `UsageError`, beginning with ``what``, for an invalid regular expression.
    """
    compiled = _compile(pattern, what)
    return [weight for weight in weights if _matches(weight, compiled)]


def _compile(pattern: str, what: str = "exclude") -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{what} {pattern!r}: not a regular expression: {error}") from error


def _excluded(weight: PrunableWeight, patterns: Sequence[re.Pattern[str]]) -> PrunableWeight:
    if not weight.pruned:
        return weight
    for pattern in patterns:
        if _matches(weight, pattern):
            return replace(weight, pruned=False, reason=f"excluded by {pattern.pattern!r}")
    return weight


def _left_out(weight: PrunableWeight, patterns: Sequence[re.Pattern[str]]) -> PrunableWeight:
    if not weight.pruned or any(_matches(weight, pattern) for pattern in patterns):
        return weight
    return replace(weight, pruned=False, reason="not among those asked for alone")


def _matches(weight: PrunableWeight, pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(text) for text in (weight.key, *weight.nodes))


def _key(scope: str, name: str) -> str:
    return f"{scope}:{name}" if scope else name


# The operators with weights. ``axes`` gives the output and the input axis of the operand.

_Axes = Callable[[ir.Node, int], tuple[int | None, int | None]]


@dataclass(frozen=True)
class _Operand:
    index: int
    data: int
    axes: _Axes
    kind: str = ""
    zero: int | None = None  # the input that holds the zero point


def _conv_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    return 0, 1


def _conv_transpose_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    return 1, 0


def _no_axes(node: ir.Node, rank: int) -> tuple[None, None]:
    return None, None


def _recurrent_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    return 1, 2


def _left_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    transposed = _flag(node, "transA")
    return (rank - 1, rank - 2) if transposed else (rank - 2, rank - 1)


def _right_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    transposed = _flag(node, "transB")
    return (rank - 2, rank - 1) if transposed else (rank - 1, rank - 2)


def _in_groups(node: ir.Node) -> int:
    groups = _ints(node, "group") if node.op_type == "ConvTranspose" else None
    return groups[0] if groups else 1


def _flag(node: ir.Node, name: str) -> bool:
    return any(_ints(node, name) or [])


_LINEAR = (_Operand(1, 0, _right_axes), _Operand(0, 1, _left_axes))
_RECURRENT = (
    _Operand(1, 0, _recurrent_axes, "recurrent"),
    _Operand(2, 0, _recurrent_axes, "recurrent"),
)
_MICROSOFT = "com.microsoft"

_OPERANDS: dict[tuple[str, str], tuple[_Operand, ...]] = {
    ("", "Conv"): (_Operand(1, 0, _conv_axes),),
    (_MICROSOFT, "FusedConv"): (_Operand(1, 0, _conv_axes),),
    ("com.microsoft.nchwc", "Conv"): (_Operand(1, 0, _conv_axes),),
    ("", "ConvTranspose"): (_Operand(1, 0, _conv_transpose_axes),),
    ("", "Gemm"): _LINEAR,
    (_MICROSOFT, "FusedGemm"): _LINEAR,
    ("", "MatMul"): _LINEAR,
    (_MICROSOFT, "FusedMatMul"): _LINEAR,
    (_MICROSOFT, "GemmFastGelu"): _LINEAR,
    ("", "LSTM"): _RECURRENT,
    ("", "GRU"): _RECURRENT,
    ("", "RNN"): _RECURRENT,
    ("", "ConvInteger"): (_Operand(1, 0, _conv_axes, "quantised", 3),),
    ("", "QLinearConv"): (_Operand(3, 0, _conv_axes, "quantised", 5),),
    ("", "MatMulInteger"): (
        _Operand(1, 0, _right_axes, "quantised", 3),
        _Operand(0, 1, _left_axes, "quantised", 2),
    ),
    ("", "QLinearMatMul"): (
        _Operand(3, 0, _right_axes, "quantised", 5),
        _Operand(0, 3, _left_axes, "quantised", 2),
    ),
    (_MICROSOFT, "QGemm"): (_Operand(3, 0, _right_axes, "quantised", 5),),
    (_MICROSOFT, "MatMulIntegerToFloat"): (_Operand(1, 0, _right_axes, "quantised", 5),),
    (_MICROSOFT, "DynamicQuantizeMatMul"): (_Operand(1, 0, _right_axes, "quantised", 3),),
    (_MICROSOFT, "MatMulNBits"): (_Operand(1, 0, _conv_axes, "quantised"),),
    (_MICROSOFT, "QAttention"): (_Operand(1, 0, _right_axes, "quantised", 7),),
    (_MICROSOFT, "Attention"): (_Operand(1, 0, _right_axes, "optional"),),
    ("", "DeformConv"): (_Operand(1, 0, _conv_axes, "optional"),),
    ("", "Einsum"): (
        _Operand(1, 0, _no_axes, "optional"),
        _Operand(0, 1, _no_axes, "optional"),
    ),
}

_KIND_REASONS = {
    "recurrent": "recurrent weight; pruned only by choice",
    "optional": "weight of {operator}; pruned only by choice",
    "quantised": "quantised: stored as integers",
}

_RESHAPING = {"Reshape", "Squeeze", "Unsqueeze", "Flatten"}
_ONE_TO_ONE = {
    "Identity",
    "Transpose",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
    *_RESHAPING,
}
_RANDOM = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}


@dataclass(eq=False)
class _Frame:
    """One call of a function: what its inputs are bound to. The main graph is a call, too."""

    bindings: dict[ir.Value, tuple[ir.Value, _Frame]] = field(default_factory=dict)
    calls: dict[ir.Node, _Frame] = field(default_factory=dict)


_Place = tuple[ir.Value, _Frame]


class _Finder:
    def __init__(self, model: ir.Model, include: Collection[str]) -> None:
        self.weights: dict[str, PrunableWeight] = {}
        self._include = include
        self._functions = model.functions
        self._scopes = {id(graph): scope for scope, graph in iterate_scopes(model)}
        self._stored = {stored.value: stored for stored in stored_tensors(model).values()}
        # What the inputs of loop bodies are, where they are the same in every iteration.
        self._carried: dict[ir.Value, ir.Value] = {}
        self._constant: dict[tuple[ir.Value, _Frame], bool] = {}

    def visit(self, scope: str, graph: Scope, frame: _Frame) -> None:
        """Add the weights of every node of ``graph``, of its subgraphs and called functions."""
        for node in graph:
            if function := self._functions.get(node.op_identifier()):
                called = self._call(node, function, frame)
                self.visit(self._scopes[id(function)], function, called)
                continue
            for operand in _OPERANDS.get((node.domain, node.op_type), ()):
                self._add(scope, node, operand, frame)
            for body in _bodies(node):
                self._carried.update(_carried_inputs(node, body))
                self.visit(self._scopes[id(body)], body, frame)

    def _add(self, scope: str, node: ir.Node, operand: _Operand, frame: _Frame) -> None:
        value, data = _input(node, operand.index), _input(node, operand.data)
        if value is None:
            return
        origin, chain = self._trace(value, frame)
        stored = self._stored.get(origin[0])
        if stored is None and not self._is_constant(*origin):
            return
        constant_data = data is not None and self._is_constant(data, frame)
        if constant_data and node.op_type not in ("Conv", "ConvTranspose"):
            return
        if stored is None:
            weight = self._computed(value, frame, origin[0], node)
        else:
            weight = self._stored_weight(stored, node, operand, chain, constant_data)
        self._merge(replace(weight, nodes=(_key(scope, node_label(node)),)))

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
        operand: _Operand,
        chain: list[ir.Node],
        constant_data: bool,
    ) -> PrunableWeight:
        tensor = stored.tensor
        shape = tuple(tensor.shape.numpy())
        axes = self._stored_axes(shape, chain)
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
            in_groups=_in_groups(node),
        )
        zero = self._zero(stored, node, operand, chain)
        reason = self._objection(stored, weight, operand, axes, constant_data, zero)
        return replace(weight, pruned=not reason, reason=reason, zero=zero or 0)

    def _objection(
        self,
        stored: StoredTensor,
        weight: PrunableWeight,
        operand: _Operand,
        axes: list[int | None] | None,
        constant_data: bool,
        zero: int | None,
    ) -> str:
        quantised = not stored.tensor.dtype.is_floating_point() or stored.tensor.dtype.bitwidth < 16
        if quantised and "quantised" not in self._include:
            return _KIND_REASONS["quantised"]
        if quantised and zero is None:
            return f"{_KIND_REASONS['quantised']}, not as bytes with one zero point"
        if weight.count == 0:
            return "holds no elements"
        if axes is not None and len(axes) < 2:
            return "a vector, not a matrix"
        if constant_data:
            return "fed by constant data"
        if quantised:
            return ""
        if operand.kind and operand.kind not in self._include:
            return _KIND_REASONS[operand.kind].format(operator=weight.operator)
        return describe_basis(weight.operator, weight.shape, stored.numpy)

    def _zero(
        self, stored: StoredTensor, node: ir.Node, operand: _Operand, chain: list[ir.Node]
    ) -> int | None:
        """Return what is stored for zero; None where that is not one number."""
        if stored.tensor.dtype.is_floating_point():
            return 0
        if stored.tensor.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
            return None
        holders = [(step, 2) for step in chain if step.op_type == "DequantizeLinear"]
        holders += [(node, operand.zero)] if operand.zero is not None else []
        if not holders:
            return None
        holder, index = holders[0]
        value = _input(holder, index)
        if value is None:
            return 0
        numbers = (
            {int(n) for n in self._stored[value].numpy().ravel()} if value in self._stored else ()
        )
        return next(iter(numbers)) if len(numbers) == 1 else None

    def _computed(
        self, operand: ir.Value, frame: _Frame, origin: ir.Value, node: ir.Node
    ) -> PrunableWeight:
        """Describe a weight that the graph computes; it goes by the name of the operand."""
        producer = origin.producer()
        assert producer is not None
        generated = producer.op_type == "ConstantOfShape"
        shape = self._generated_shape(producer) if generated else _static_shape(operand)
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
            chain=tuple(step.op_type for step in self._makers(operand, frame)),
        )

    def _makers(self, value: ir.Value, frame: _Frame) -> list[ir.Node]:
        """Return the nodes that turn stored tensors into a constant value, in graph order."""
        pending, seen = [(value, frame)], set()
        nodes: dict[ir.Node, None] = {}
        while pending:
            place = pending.pop()
            if place in seen:
                continue
            seen.add(place)
            node = place[0].producer()
            if node is not None and node.op_type not in ("Constant", "ConstantOfShape"):
                nodes[node] = None
            pending.extend(self._sources(*place) or [])
        graphs = dict.fromkeys(node.graph for node in nodes if node.graph is not None)
        return [node for graph in graphs for node in graph if node in nodes]

    def _generated_shape(self, node: ir.Node) -> tuple[int, ...] | None:
        value = _input(node, 0)
        if value is None or (stored := self._stored.get(value)) is None:
            return _static_shape(node.outputs[0])
        return tuple(int(size) for size in stored.numpy())

    def _trace(self, value: ir.Value, frame: _Frame) -> tuple[_Place, list[ir.Node]]:
        """Follow one-to-one operators back; return where they begin, and them in graph order."""
        chain: list[ir.Node] = []
        while value not in self._stored:
            origin = self._same_value(value, frame)
            if origin is not None:
                value, frame = origin
                continue
            node = value.producer()
            if node is None or node.domain or node.op_type not in _ONE_TO_ONE:
                break
            if (source := _input(node, 0)) is None:
                break
            chain.append(node)
            value = source
        return (value, frame), chain[::-1]

    def _same_value(self, value: ir.Value, frame: _Frame) -> _Place | None:
        """Return what ``value`` stands for: an argument, a carried state, a function's result."""
        if value in frame.bindings:
            return frame.bindings[value]
        if value in self._carried:
            return self._carried[value], frame
        node = value.producer()
        if node is None or (function := self._functions.get(node.op_identifier())) is None:
            return None
        index = value.index()
        assert index is not None
        return function.outputs[index], self._call(node, function, frame)

    def _call(self, node: ir.Node, function: ir.Function, frame: _Frame) -> _Frame:
        if node not in frame.calls:
            pairs = zip(function.inputs, node.inputs, strict=False)
            bindings = {inner: (outer, frame) for inner, outer in pairs if outer is not None}
            frame.calls[node] = _Frame(bindings)
        return frame.calls[node]

    def _is_constant(self, value: ir.Value, frame: _Frame) -> bool:
        """Tell whether nothing but stored tensors goes into ``value``.

        A loop rather than a recursion: graphs are deeper than Python's stack.
        """
        pending = [(value, frame)]
        while pending:
            place = pending[-1]
            if place in self._constant:
                pending.pop()
                continue
            sources = self._sources(*place)
            if sources is None or any(self._constant.get(source) is False for source in sources):
                self._constant[place] = False
            elif unknown := [source for source in sources if source not in self._constant]:
                pending.append(unknown[0])
            else:
                self._constant[place] = True
        return self._constant[value, frame]

    def _sources(self, value: ir.Value, frame: _Frame) -> list[_Place] | None:
        """Return the values that ``value`` is made from; None if that is not constants alone."""
        if value in self._stored:
            return []
        if (origin := self._same_value(value, frame)) is not None:
            return [origin]
        node = value.producer()
        if node is None or node.op_type in _RANDOM or next(_bodies(node), None) is not None:
            return None
        if not node.inputs and node.op_type != "Constant":
            return None
        return [(source, frame) for source in node.inputs if source is not None]

    def _stored_axes(self, shape: tuple[int, ...], chain: list[ir.Node]) -> list[int | None] | None:
        """Return for each axis of the operand the axis of the stored tensor it is, or None.

        None instead of a list where not even the rank of the operand can be told.
        """
        axes: list[int | None] = list(range(len(shape)))
        for node in chain:
            if node.op_type == "Transpose":
                order = _ints(node, "perm") or range(len(shape))[::-1]
                axes = [axes[axis] for axis in order]
                shape = tuple(shape[axis] for axis in order)
            elif node.op_type in _RESHAPING:
                target = self._reshaped(shape, node)
                if target is None:
                    return None
                axes = _match_axes(shape, target, axes)
                shape = target
        return axes

    def _reshaped(self, shape: tuple[int, ...], node: ir.Node) -> tuple[int, ...] | None:
        """Return the shape after a Reshape, Squeeze, Unsqueeze or Flatten."""
        if node.op_type == "Flatten":
            axis = next(iter(_ints(node, "axis") or [1]))
            return math.prod(shape[:axis]), math.prod(shape[axis:])
        numbers = self._numbers(node, "shape" if node.op_type == "Reshape" else "axes")
        if node.op_type == "Reshape" and numbers is not None:
            return _fill_in(shape, numbers)
        if node.op_type == "Squeeze" and numbers is None and len(node.inputs) < 2:
            return tuple(size for size in shape if size != 1)
        if node.op_type == "Squeeze" and numbers is not None:
            gone = {axis % len(shape) for axis in numbers}
            return tuple(size for axis, size in enumerate(shape) if axis not in gone)
        if node.op_type == "Unsqueeze" and numbers is not None:
            rank = len(shape) + len(numbers)
            new, sizes = {axis % rank for axis in numbers}, iter(shape)
            return tuple(1 if axis in new else next(sizes) for axis in range(rank))
        return _static_shape(node.outputs[0])

    def _numbers(self, node: ir.Node, name: str) -> list[int] | None:
        """Return the integers of an attribute (older opsets) or of the second input."""
        if (numbers := _ints(node, name)) is not None:
            return numbers
        value = _input(node, 1)
        if value is None or (stored := self._stored.get(value)) is None:
            return None
        return [int(number) for number in stored.numpy().reshape(-1)]


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _ints(node: ir.Node, name: str) -> list[int] | None:
    """Return an attribute of integers; None where it is absent or up to the call of a function."""
    attribute = node.attributes.get(name)
    if attribute is None or attribute.is_ref():
        return None
    return [attribute.value] if isinstance(attribute.value, int) else list(attribute.as_ints())


def _static_shape(value: ir.Value) -> tuple[int, ...] | None:
    shape = value.shape
    return tuple(shape.numpy()) if shape is not None and shape.is_static() else None


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _carried_inputs(node: ir.Node, body: ir.Graph) -> dict[ir.Value, ir.Value]:
    """Return the body inputs of Loop and Scan that keep the value they start with.

    Loop hands the iteration and the condition before the states, Scan the scanned slices behind.
    """
    if node.op_type == "Loop":
        inner, outer, after = body.inputs[2:], node.inputs[2:], body.outputs[1:]
    elif node.op_type == "Scan":
        states = len(node.inputs) - sum(_ints(node, "num_scan_inputs") or [])
        inner, outer, after = body.inputs[:states], node.inputs[:states], body.outputs[:states]
    else:
        return {}
    return {
        begin: start
        for begin, start, end in zip(inner, outer, after, strict=False)
        if start is not None and _behind_identities(end) is begin
    }


def _behind_identities(value: ir.Value) -> ir.Value:
    while (node := value.producer()) is not None and node.op_type == "Identity":
        if (source := _input(node, 0)) is None:
            break
        value = source
    return value


def _fill_in(shape: tuple[int, ...], target: list[int]) -> tuple[int, ...]:
    """Resolve the 0 (as before) and -1 (what is left) of a Reshape."""
    sizes = [
        shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(target)
    ]
    rest = math.prod(size for size in sizes if size != -1) or 1
    return tuple(math.prod(shape) // rest if size == -1 else size for size in sizes)


def _match_axes(
    shape: tuple[int, ...], target: tuple[int, ...], axes: list[int | None]
) -> list[int | None]:
    """Return the ``axes`` that a reshape from ``shape`` to ``target`` leaves whole.

    An axis is whole if it has the same size and the same number of elements before it.
    """
    where = {
        (math.prod(shape[:axis]), size): axes[axis] for axis, size in reversed([*enumerate(shape)])
    }
    return [where.get((math.prod(target[:axis]), size)) for axis, size in enumerate(target)]
