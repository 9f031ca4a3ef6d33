"""Graphs inside nodes, put in the place of the node."""

from collections.abc import Sequence

import onnx_ir as ir

from onnx_unipts.graph.branches import take_apart
from onnx_unipts.graph.differentiable.rule import Builder, CannotRewriteError

__all__ = ["inlined", "is_true", "require_feasible"]

# What graphs are spelled out to at most: a node takes time to build, and memory in training.
MOST_NODES = 2000


def inlined(op: Builder, body: ir.Graph, arguments: Sequence[ir.Value]) -> list[ir.Value]:
    """Return what a copy of ``body`` makes of ``arguments``, one value for each of its inputs."""
    copy = body.clone(allow_outer_scope_values=True)
    for value, argument in zip(copy.inputs, arguments, strict=True):
        value.replace_all_uses_with(argument, replace_graph_outputs=True)
    initializers, nodes, results = take_apart(copy)
    for value in initializers:
        op.adopt_constant(value)
    for node in nodes:
        op.adopt(node)
    return results


def is_true(op: Builder, value: ir.Value | None) -> bool:
    """Tell whether a condition is left out or stored as true."""
    return op.is_constant(value) and (value is None or bool(op.constant(value).all()))


def require_feasible(body: ir.Graph, times: int) -> None:
    """Raise `CannotRewriteError` if ``body`` is too much to be spelled out so many ``times``."""
    if (nodes := times * len(body)) > MOST_NODES:
        raise CannotRewriteError(f"spelled out it would be {nodes} nodes")
