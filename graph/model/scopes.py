"""The scopes of a model: its main graph, the graphs inside nodes, and its functions."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

__all__ = ["Scope", "iterate_scopes", "node_label", "proto_graphs", "scoped"]

Scope = ir.Graph | ir.Function


def iterate_scopes(model: ir.Model) -> Iterator[tuple[str, Scope]]:
    """Yield the main graph as ``""``, the graphs in it, then the functions, each with its path.

    A subgraph is ``<scope of the node>/<node>.<attribute>``, a function ``fn:<domain>.<name>``.
    """
    seen: set[str] = set()
    roots: list[tuple[str, Scope]] = [("", model.graph)]
    roots += [(f"fn:{f.domain}.{f.name}", f) for f in model.functions.values()]
    for root in roots:
        for scope, graph in _nested(*root):
            number = 2
            unique = scope
            while unique in seen:
                unique = f"{scope}#{number}"
                number += 1
            seen.add(unique)
            yield unique, graph


def _nested(scope: str, graph: Scope) -> Iterator[tuple[str, Scope]]:
    yield scope, graph
    for node in graph:
        for name, attribute in node.attributes.items():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _nested(f"{scope}/{node_label(node)}.{name}", attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS:
                for index, body in enumerate(attribute.as_graphs()):
                    yield from _nested(f"{scope}/{node_label(node)}.{name}[{index}]", body)


def scoped(scope: str, name: str) -> str:
    """Return ``name``, or ``scope:name`` in a subgraph or function; unique within the model."""
    return f"{scope}:{name}" if scope else name


def node_label(node: ir.Node) -> str:
    """Return the name of a node, or of its first output where it has none."""
    return node.name or next((o.name for o in node.outputs if o.name), None) or node.op_type


def proto_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield the main graph, the functions and every graph in them."""
    pending: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)
