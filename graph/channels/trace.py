"""Following channels through a graph: one pass over its nodes, one rule per operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.evaluation import evaluate
from onnx_unipts.graph.channels.labels import Labels
from onnx_unipts.graph.model import StoredTensor, node_label, stored_tensors
from onnx_unipts.graph.nodes import given_integers
from onnx_unipts.graph.randomness import RANDOM
from onnx_unipts.graph.registry import Registry
from onnx_unipts.graph.shape_inference import with_inferred_shapes

__all__ = [
    "RULES",
    "Axes",
    "CannotTraceError",
    "Edit",
    "Known",
    "Read",
    "Rule",
    "Stays",
    "Trace",
    "trace_channels",
]

Axes: TypeAlias = "tuple[np.ndarray | None, ...]"
"""Per axis of a value the labels of its positions, None where no position can ever go."""

Rule: TypeAlias = "Callable[[ir.Node, Trace], None]"

RULES: Registry[Rule] = Registry("channel rule", "onnx_unipts.graph.channels.rules")
"""All rules by operator, ``Conv`` or ``com.microsoft.Gelu``.

A rule gives the outputs of a node their labels and ties or pins those of its inputs. What it does
not ask for is pinned, and so is everything where it raises `CannotTraceError`.
"""


class CannotTraceError(Exception):
    """A node mixes channels in a way that no rule understands; the message says how."""


@dataclass(frozen=True)
class Known:
    """What is known of a value without running the model: ``values`` (float64 or integer).

    ``mask`` (bool, same shape) tells where. Both have the rank of the value; an axis of size 1
    stands for all positions along it.
    """

    values: np.ndarray
    mask: np.ndarray

    def along(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return values and mask by position along ``axis``, known where all other axes agree."""
        if self.values.size != self.values.shape[axis]:
            return np.zeros(1), np.zeros(1, dtype=bool)
        return self.values.reshape(-1), self.mask.reshape(-1)


@dataclass(frozen=True)
class Read:
    """A weighted sum over channels: by a convolution or a matrix product.

    ``labels``, ``zero``, ``values`` and ``known`` have one element per position that is summed
    over: its label, whether all its weights are zero, and its constant value where it has one.
    ``absorb`` adds the contribution of constants (float64, one per position) to the bias; None
    where there is no way to.
    """

    node: ir.Node
    labels: np.ndarray
    zero: np.ndarray
    values: np.ndarray
    known: np.ndarray
    absorb: Callable[[np.ndarray], None] | None = None

    @property
    def harmless(self) -> np.ndarray:
        """Whether a position can go without a change of the sum, bool."""
        absorbed = self.known & ((self.values == 0) | (self.absorb is not None))
        return self.zero | absorbed


Stays: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Says of labels which of them stay in a removal, bool."""

Edit: TypeAlias = Callable[[Stays], None]
"""Changes a node for a removal."""


@dataclass
class Trace:
    """What is found out about the channels of the main graph of ``model``.

    Attributes:
        model: the model; nothing in it changes while it is traced.
        labels: the labels of all positions.
        reads: every weighted sum over labelled positions.
        edits: what has to change in nodes when channels go.
        stored: the stored tensors whose axes are labelled.
    """

    model: ir.Model
    labels: Labels = field(default_factory=Labels)
    reads: list[Read] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    stored: dict[ir.Value, StoredTensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._axes: dict[ir.Value, Axes] = {}
        self._known: dict[ir.Value, Known] = {}
        self._constants: dict[ir.Value, np.ndarray] = {}
        self._tensors = {
            s.value: s for s in stored_tensors(self.model).values() if s.value not in self._inputs
        }
        self._shapes = _inferred_shapes(self.model)
        self._touched: set[ir.Value] = set()
        self._opaque: dict[ir.Value, str] = {}

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return self.model.opset_imports.get("", 1)

    @property
    def channels(self) -> tuple[np.ndarray, np.ndarray]:
        """The channel of each label, and whether it has to stay: see `Labels.solve`."""
        return self.labels.solve()

    @property
    def labelled(self) -> dict[ir.Value, Axes]:
        """The values with labels along any axis."""
        return {v: a for v, a in self._axes.items() if any(axis is not None for axis in a)}

    # What rules ask

    def axes(self, value: ir.Value | None) -> Axes:
        """Return the labels of ``value``; those of a stored tensor are issued at the first call."""
        if value is None:
            raise CannotTraceError("an input is missing")
        self._touched.add(value)
        if value in self._axes:
            return self._axes[value]
        if value in self._tensors:
            shape = self._tensors[value].tensor.shape.numpy()
            self.stored[value] = self._tensors[value]
            self._axes[value] = tuple(self.labels.fresh(size) for size in shape)
            return self._axes[value]
        return (None,) * self.rank(value)

    def rank(self, value: ir.Value) -> int:
        """Return the number of axes. Raises `CannotTraceError` where it is not known."""
        shape = self._shape(value)
        if shape is None:
            raise CannotTraceError(f"the rank of {value.name} is not known")
        return len(shape)

    def dims(self, value: ir.Value) -> tuple[int | str | None, ...]:
        """Return the sizes of the axes: numbers, names, or None where nothing is known."""
        shape = self._shape(value)
        if shape is None:
            raise CannotTraceError(f"the rank of {value.name} is not known")
        return tuple(dim.value if isinstance(dim, ir.SymbolicDim) else int(dim) for dim in shape)

    def constant(self, value: ir.Value | None) -> np.ndarray | None:
        """Return what ``value`` is in every run, in its own shape and dtype, None if it varies."""
        if value is None:
            return None
        if value in self._tensors and value not in self._constants:
            self._constants[value] = self._tensors[value].numpy()
        if value in self._constants or value.const_value is None or value.is_graph_input():
            return self._constants.get(value)
        return value.const_value.numpy()  # an edit has put it there

    def require_constant(self, value: ir.Value | None, what: str) -> np.ndarray:
        """Return the constant ``value``; raise `CannotTraceError` if ``what`` is computed."""
        constant = self.constant(value)
        if constant is None:
            raise CannotTraceError(f"its {what} is computed")
        return constant

    def numbers(self, node: ir.Node, attribute: str, index: int) -> list[int] | None:
        """Return an attribute, or the input ``index`` of newer opsets; None where neither is.

        Raises `CannotTraceError` where the input is computed.
        """
        return given_integers(node, attribute, index, lambda v: self.require_constant(v, attribute))

    def known(self, value: ir.Value | None) -> Known | None:
        """Return what is known of ``value`` without running the model."""
        if value is not None and value in self._known:
            return self._known[value]
        constant = self.constant(value)
        if constant is None or constant.dtype.kind in "OSU":
            return None
        values = constant if constant.dtype.kind in "iub" else constant.astype(np.float64)
        return Known(values, np.broadcast_to(True, values.shape))

    def known_along(self, value: ir.Value | None, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the constant value of each position along a labelled ``axis``, and where it is.

        Both have the length of the axis.
        """
        labels = self.axes(value)[axis]
        count = 1 if labels is None else len(labels)
        known = self.known(value)
        if known is None:
            return np.zeros(count), np.zeros(count, dtype=bool)
        values, mask = known.along(axis)
        return (
            np.broadcast_to(values, count).astype(np.float64),
            np.broadcast_to(mask, count),
        )

    # What rules say

    def give(self, value: ir.Value, axes: Sequence[np.ndarray | None]) -> None:
        """Give an output its labels."""
        self._axes[value] = tuple(axes)

    def learn(self, value: ir.Value, values: np.ndarray, mask: np.ndarray) -> None:
        """Remember where ``value`` is constant, and what it is there (see `Known`)."""
        if mask.any():
            self._known[value] = Known(values, np.broadcast_to(mask, values.shape))

    def learn_along(self, value: ir.Value, axis: int, values: np.ndarray, mask: np.ndarray) -> None:
        """Remember which positions along ``axis`` are constant, and what they are."""
        shape = [1] * self.rank(value)
        shape[axis] = -1
        self.learn(value, values.reshape(shape), mask.reshape(shape))

    def tie(self, left: np.ndarray | None, right: np.ndarray | None, why: str) -> None:
        """Make two axes of one size one; where one has no labels, the other's positions stay."""
        if left is not None and right is not None:
            self.labels.tie(left, right)
        elif left is not None:
            self.labels.pin(left, why)
        elif right is not None:
            self.labels.pin(right, why)

    def pin(self, axes: Sequence[np.ndarray | None], why: str) -> None:
        """Let all positions along ``axes`` stay."""
        for labels in axes:
            if labels is not None:
                self.labels.pin(labels, why)

    def adopt(self, value: ir.Value, axes: Sequence[np.ndarray | None]) -> None:
        """Take in an initializer that was added to the graph after it was traced."""
        self.stored[value] = StoredTensor("", value)
        self._axes[value] = tuple(axes)

    def edit(self, change: Edit) -> None:
        """Call ``change`` when channels are removed."""
        self.edits.append(change)

    # The pass

    def visit(self, node: ir.Node) -> None:
        """Trace one node."""
        self._touched = set()
        if any(_holds_graph(attribute) for attribute in node.attributes.values()):
            self._refuse(node, f"{node.op_type} has a graph of its own")
            return
        self._fold(node)
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        try:
            if name not in RULES:
                raise CannotTraceError(f"no rule for {name}")
            RULES[name](node, self)
        except (CannotTraceError, IndexError, ValueError) as error:
            # Also what no valid model has: a missing input, or sizes that contradict each other.
            self._refuse(node, f"{node_label(node)} ({node.op_type}): {error}")
            return
        for value in filter(None, node.inputs):
            if value not in self._touched:
                self._opaque[value] = f"{node_label(node)} ({node.op_type}) takes it as it is"

    def end(self) -> None:
        """Pin what leaves the graph and what was used in ways that say nothing of channels."""
        for value in self.model.graph.outputs:
            self._opaque[value] = f"output {value.name} keeps its shape"
        for graph in (graph for graph in self.model.graphs() if graph is not self.model.graph):
            for node in graph:
                for value in filter(None, node.inputs):
                    self._opaque[value] = f"used within a graph, by {node_label(node)}"
            for value in graph.outputs:
                self._opaque[value] = "used within a graph"
        for value, why in self._opaque.items():
            self.pin(self._axes.get(value, ()), why)

    def _refuse(self, node: ir.Node, reason: str) -> None:
        for value in node.inputs:
            if value is not None:
                self._opaque[value] = reason
        for value in node.outputs:
            self._axes.pop(value, None)

    def _fold(self, node: ir.Node) -> None:
        """Compute the outputs of a node that takes nothing but constants."""
        if not node.inputs or node.domain or node.op_type in NOT_FOLDED:
            return
        given = list(filter(None, node.inputs))
        arrays = {v: array for v in given if (array := self.constant(v)) is not None}
        if len(arrays) < len(set(given)):
            return
        outputs = evaluate(node, arrays, self.opset)
        if outputs is not None:
            self._constants |= outputs

    def _shape(self, value: ir.Value) -> ir.Shape | None:
        if value in self._tensors:
            return ir.Shape(self._tensors[value].tensor.shape.numpy())
        if value in self._constants:
            return ir.Shape(self._constants[value].shape)
        return self._shapes.get(value.name or "", value.shape)

    @property
    def _inputs(self) -> set[ir.Value]:
        return set(self.model.graph.inputs)


NOT_FOLDED = {*RANDOM, "QuantizeLinear"}


def trace_channels(model: ir.Model) -> Trace:
    """Follow the channels through the main graph of ``model``, which stays as it is."""
    trace = Trace(model)
    for node in model.graph:
        trace.visit(node)
    trace.end()
    return trace


def _holds_graph(attribute: ir.Attr) -> bool:
    return attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _inferred_shapes(model: ir.Model) -> dict[str, ir.Shape]:
    """Return the shapes of the values of the main graph by name, as far as they can be told."""
    copy = with_inferred_shapes(model)
    values = (value for node in copy.graph for value in node.outputs)
    return {
        str(value.name): value.shape
        for value in (*copy.graph.inputs, *values)
        if value.shape is not None
    }
