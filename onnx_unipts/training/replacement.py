"""A node of a gradient graph replaced by others that give the same values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

__all__ = ["constant", "replace"]


def constant(graph: ir.Graph, numbers: Sequence[int]) -> ir.Value:
    """Return a new int64 initializer that holds ``numbers``."""
    name = f"gradient/constant_{len(graph.initializers)}"
    value = ir.Value(name=name, const_value=ir.tensor(numbers, ir.DataType.INT64, name=name))
    graph.register_initializer(value)
    return value


def replace(
    graph: ir.Graph, node: ir.Node, made: Sequence[ir.Node], values: Mapping[int, ir.Value]
) -> None:
    """Put ``made`` in the place of ``node``; ``values`` replace its outputs, by their position."""
    graph.insert_before(node, made)
    for index, new in values.items():
        old = node.outputs[index]
        name = old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        old.name, new.name = f"{name}/replaced", name
        new.type, new.shape = old.type, old.shape
    graph.remove(node, safe=True)
