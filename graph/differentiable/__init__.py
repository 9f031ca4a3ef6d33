"""Rewrites the operators whose gradient is missing or wrong in onnxruntime-training 1.19.2.

One rule per operator and file, all in the registry `RULES`. Which operators need one was measured
against finite differences.
"""

from __future__ import annotations

import logging
from collections import deque

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rounding_error import without_rounding_errors
from onnx_unipts.graph.differentiable.rule import (
    RULES,
    Builder,
    CannotRewriteError,
    Result,
    Rule,
    infer,
    rule_name,
)
from onnx_unipts.graph.differentiable.sequence import remove_unread_sequences
from onnx_unipts.graph.differentiable.stopping import (
    is_float,
    partly_reached_inputs,
    reached_inputs,
    stop_gradients,
)
from onnx_unipts.graph.names import Names, taken_names

__all__ = [
    "RULES",
    "Builder",
    "Result",
    "Rule",
    "make_differentiable",
    "partly_reached_inputs",
    "reached_inputs",
    "stop_gradients",
    "without_rounding_errors",
]

logger = logging.getLogger(__name__)

# How the operators are called that compute on integers that stand for floats.
QUANTISED = ("QLinear", "QGemm")


def make_differentiable(model: ir.Model) -> list[str]:
    """Rewrite, in place, every node whose gradient onnxruntime-training lacks or gets wrong.

    ``model`` has opset 17 to 21, inferred shapes (static ones where a rule needs them), functions
    inlined and Constant nodes turned into initializers. What it computes stays the same up to
    rounding, and so do the names of its outputs. A BatchNormalization with ``training_mode=1`` is
    one to be trained and stays; only the main graph is rewritten.

    Returns one line per rewritten node: operator, name and what took its place. A node that needs a
    rewrite and cannot be rewritten stays as it is; the logger says why, and `stop_gradients` keeps
    it from standing in the way of the rest.
    """
    names = Names(taken_names(model.graph))
    pending = deque(model.graph)
    log = []
    while pending:
        node = pending.popleft()
        if any(output.shape is None for output in node.outputs):
            infer(node, model.graph.opset_imports[""])  # behind an operator that is not of ONNX
        if rule_name(node) not in RULES or not (_is_float(node) or _is_quantised(node)):
            continue
        rule = RULES[rule_name(node)]
        builder = Builder(node, model.graph, names)
        values = _apply(rule, node, builder)
        if values is None:
            continue
        _replace(model.graph, node, builder, values)
        pending.extendleft(new for new in reversed(builder.nodes) if new not in builder.right)
        log.append(f"{node.op_type} {node.name}: {_what(rule)}")
    remove_unread_sequences(model.graph)
    _separate_inputs(model.graph, names)
    return log


def _separate_inputs(graph: ir.Graph, names: Names) -> None:
    """Put an Identity behind inputs that only one node reads, and more than once.

    The gradient builder names the sum of their gradients twice.
    """
    for value in graph.inputs:
        uses = value.uses()
        readers = {node for node, _ in uses}
        if len(uses) < 2 or len(readers) > 1:
            continue
        node = readers.pop()
        if node.graph is not graph:
            continue
        copy = ir.node("Identity", [value], name=names.fresh(f"{value.name}/Identity"))
        copy.outputs[0].name = names.fresh(f"{value.name}/copy")
        copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
        for user, index in tuple(uses):
            user.replace_input_with(index, copy.outputs[0])
        graph.insert_before(node, copy)


def _apply(rule: Rule, node: ir.Node, builder: Builder) -> list[ir.Value | None] | None:
    """Return the values that take the place of the node's outputs, None to leave it."""
    try:
        result = rule(node, builder)
    except CannotRewriteError as error:
        result = str(error)
    if result is None:
        return None
    if isinstance(result, str):
        node.meta["undifferentiable"] = result
        logger.info("%s %s is left as it is: %s", node.op_type, node.name, result)
        return None
    values = [result] if isinstance(result, ir.Value) else list(result)
    return [None if value is None else _own(value, builder) for value in values]


def _own(value: ir.Value, builder: Builder) -> ir.Value:
    """Return ``value`` as the output of a new node: it is about to take the old output's name."""
    return value if value.producer() in builder.nodes else builder.Identity(value)


def _replace(
    graph: ir.Graph, node: ir.Node, builder: Builder, values: list[ir.Value | None]
) -> None:
    for initializer in builder.initializers:
        if initializer.uses():
            graph.register_initializer(initializer)
    graph.insert_before(node, builder.nodes)
    for old, value in zip(node.outputs, values, strict=False):
        if value is None or not old.name:
            continue
        value.type = old.type or value.type
        value.shape = _known(old.shape, value.shape)
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        value.name = old.name
    _remove(graph, node)


def _known(before: ir.Shape | None, made: ir.Shape | None) -> ir.Shape | None:
    """Return the shape before, unless only the one that was made has no open axis."""
    if before is None or (made is not None and made.is_static() and not before.is_static()):
        return made
    return before


def _remove(graph: ir.Graph, node: ir.Node) -> None:
    """Remove ``node``, and what nothing reads any more without it."""
    inputs = {value for value in node.inputs if value is not None}
    graph.remove(node, safe=True)
    for value in inputs:
        producer = value.producer()
        if value.uses() or value.is_graph_output():
            continue
        if value.is_initializer():
            graph.initializers.pop(value.name or "")
        elif producer is not None and not any(
            output.uses() or output.is_graph_output() for output in producer.outputs
        ):
            _remove(graph, producer)


def _is_float(node: ir.Node) -> bool:
    """Say whether a gradient can flow through ``node``: a float output, or one of unknown type."""
    return any(is_float(output) for output in node.outputs)


def _is_quantised(node: ir.Node) -> bool:
    """Say whether the output of ``node`` is integers that stand for floats."""
    return node.op_type.startswith(QUANTISED)


def _what(rule: Rule) -> str:
    return (rule.__doc__ or "rewritten").splitlines()[0].rstrip(".")
