"""What a node says by itself: its inputs, its integers, the graphs in it, the shape it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

__all__ = [
    "bodies",
    "given_integers",
    "input_at",
    "integers",
    "static_shape",
    "values_read",
    "values_read_inside",
]


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def integers(node: ir.Node, name: str) -> list[int] | None:
    """Return an attribute of integers; None where it is absent or up to the call of a function."""
    attribute = node.attributes.get(name)
    if attribute is None or attribute.is_ref():
        return None
    return [attribute.value] if isinstance(attribute.value, int) else list(attribute.as_ints())


def given_integers(
    node: ir.Node, name: str, index: int, constant: Callable[[ir.Value], np.ndarray | None]
) -> list[int] | None:
    """Return the integers of the attribute ``name``, or of the input ``index`` of newer opsets.

    ``constant`` looks up what an input is in every run, None for one that varies. None where
    neither is given or that input varies.
    """
    if (numbers := integers(node, name)) is not None:
        return numbers
    value = input_at(node, index)
    array = None if value is None else constant(value)
    return None if array is None else [int(number) for number in array.reshape(-1)]


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


def values_read(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values that ``node`` or a node inside it reads."""
    yield from (value for value in node.inputs if value is not None)
    yield from values_read_inside(node)


def values_read_inside(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values that a node inside ``node`` reads, and those that come out of its graphs."""
    for body in bodies(node):
        for inner in body:
            yield from values_read(inner)
        yield from (value for value in body.outputs if value is not None)
