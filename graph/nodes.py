"""What a node says by itself: its inputs, its integers, the graphs in it, the shape it makes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

__all__ = ["bodies", "input_at", "integers", "static_shape"]


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def integers(node: ir.Node, name: str) -> list[int] | None:
    """Return an attribute of integers; None where it is absent or up to the call of a function."""
    attribute = node.attributes.get(name)
    if attribute is None or attribute.is_ref():
        return None
    return [attribute.value] if isinstance(attribute.value, int) else list(attribute.as_ints())


def static_shape(value: ir.Value) -> tuple[int, ...] | None:
    """Return the shape of ``value``; None where an axis is not known."""
    shape = value.shape
    return tuple(shape.numpy()) if shape is not None and shape.is_static() else None


def bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs directly inside ``node``."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()
