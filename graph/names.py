"""Names that are free in a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

__all__ = ["Names", "taken_names", "value_names"]


class Names:
    """Gives names that are free, each once."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def fresh(self, wish: str) -> str:
        """Return ``wish``, with a number behind it when it is taken."""
        name, count = wish, 0
        while name in self._taken:
            count += 1
            name = f"{wish}_{count}"
        self._taken.add(name)
        return name


def taken_names(graph: ir.Graph) -> Iterator[str]:
    """Yield the names of values and nodes in ``graph`` and the graphs inside it."""
    yield from value_names(graph)
    yield from (node.name for node in graph.all_nodes() if node.name)


def value_names(graph: ir.Graph) -> Iterator[str]:
    """Yield the names of values in ``graph`` and the graphs inside it; nodes have their own."""
    for each in (graph, *graph.subgraphs()):
        yield from (value.name for value in each.inputs if value.name)
        yield from each.initializers
        yield from (value.name for node in each for value in node.outputs if value.name)
