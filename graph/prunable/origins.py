"""Where values come from: across one-to-one operators, function calls and loops."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from onnx_unipts.graph.model import stored_tensors
from onnx_unipts.graph.nodes import bodies, input_at, integers
from onnx_unipts.graph.parameters import PASSED
from onnx_unipts.graph.randomness import RANDOM

__all__ = ["Call", "Origins", "Place"]


@dataclass(eq=False)
class Call:
    """One call of a function: what its inputs are bound to. The main graph is a call, too."""

    bindings: dict[ir.Value, tuple[ir.Value, Call]] = field(default_factory=dict)
    calls: dict[ir.Node, Call] = field(default_factory=dict)


# A value, within the call that it is met in.
Place = tuple[ir.Value, Call]


class Origins:
    """Traces values back to stored tensors.

    Attributes:
        stored: the tensors that the model stores, by the value that holds each.
    """

    def __init__(self, model: ir.Model) -> None:
        self.stored = {stored.value: stored for stored in stored_tensors(model).values()}
        self._functions = model.functions
        # What the inputs of loop bodies are, where they are the same in every iteration.
        self._carried: dict[ir.Value, ir.Value] = {}
        self._constant: dict[Place, bool] = {}

    def enter(self, node: ir.Node, body: ir.Graph) -> None:
        """Learn which inputs of ``body``, a graph inside ``node``, keep their value in a loop."""
        self._carried.update(_carried_inputs(node, body))

    def called(self, node: ir.Node, function: ir.Function, call: Call) -> Call:
        """Return the call that ``node``, met within ``call``, makes of ``function``."""
        if node not in call.calls:
            pairs = zip(function.inputs, node.inputs, strict=False)
            bindings = {inner: (outer, call) for inner, outer in pairs if outer is not None}
            call.calls[node] = Call(bindings)
        return call.calls[node]

    def trace(self, value: ir.Value, call: Call) -> tuple[Place, list[ir.Node]]:
        """Follow one-to-one operators back; return where they begin, and them in graph order."""
        chain: list[ir.Node] = []
        while value not in self.stored:
            origin = self._same_value(value, call)
            if origin is not None:
                value, call = origin
                continue
            node = value.producer()
            if node is None or node.domain or node.op_type not in PASSED:
                break
            if (source := input_at(node, 0)) is None:
                break
            chain.append(node)
            value = source
        return (value, call), chain[::-1]

    def is_constant(self, value: ir.Value, call: Call) -> bool:
        """Tell whether nothing but stored tensors goes into ``value``.

        A loop rather than a recursion: graphs are deeper than Python's stack.
        """
        pending = [(value, call)]
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
        return self._constant[value, call]

    def makers(self, value: ir.Value, call: Call) -> list[ir.Node]:
        """Return the nodes that turn stored tensors into a constant value, in graph order."""
        pending, seen = [(value, call)], set()
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

    def _same_value(self, value: ir.Value, call: Call) -> Place | None:
        """Return what ``value`` stands for: an argument, a carried state, a function's result."""
        if value in call.bindings:
            return call.bindings[value]
        if value in self._carried:
            return self._carried[value], call
        node = value.producer()
        if node is None or (function := self._functions.get(node.op_identifier())) is None:
            return None
        index = value.index()
        assert index is not None
        return function.outputs[index], self.called(node, function, call)

    def _sources(self, value: ir.Value, call: Call) -> list[Place] | None:
        """Return the values that ``value`` is made from; None if that is not constants alone."""
        if value in self.stored:
            return []
        if (origin := self._same_value(value, call)) is not None:
            return [origin]
        node = value.producer()
        if node is None or node.op_type in RANDOM or next(bodies(node), None) is not None:
            return None
        if not node.inputs and node.op_type != "Constant":
            return None
        return [(source, call) for source in node.inputs if source is not None]


def _carried_inputs(node: ir.Node, body: ir.Graph) -> dict[ir.Value, ir.Value]:
    """Return the body inputs of Loop and Scan that keep the value they start with.

    Loop hands the iteration and the condition before the states, Scan the scanned slices behind.
    """
    if node.op_type == "Loop":
        inner, outer, after = body.inputs[2:], node.inputs[2:], body.outputs[1:]
    elif node.op_type == "Scan":
        states = len(node.inputs) - sum(integers(node, "num_scan_inputs") or [])
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
        if (source := input_at(node, 0)) is None:
            break
        value = source
    return value
