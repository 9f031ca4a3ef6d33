"""Replacing an If by the branch that is always taken, so that gradients reach what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.names import Names, value_names

__all__ = ["conditions", "take_apart", "with_branches_taken"]


def conditions(model: ir.Model) -> list[str]:
    """Return the names of the values that the Ifs of the main graph decide by, each once."""
    return list(dict.fromkeys(_condition(node) for node in model.graph if _is_if(node)))


def with_branches_taken(
    model: ir.Model, observe: Callable[[ir.Model, Sequence[str]], Mapping[str, np.ndarray]]
) -> ir.Model:
    """Return a copy of ``model`` in which every If that always decides alike is its branch.

    ``observe`` runs a model on data and returns all observations of the named values, of any shape.
    An If within the branch that is taken is looked at next. Where nothing is to be replaced it is
    ``model`` itself.
    """
    undecided: set[str] = set()
    while names := [name for name in conditions(model) if name not in undecided]:
        taken = _taken(names, observe(model, names))
        undecided.update(name for name in names if name not in taken)
        if not taken:
            continue
        model = model.clone()
        for node in [n for n in model.graph if _is_if(n) and _condition(n) in taken]:
            branch = "then_branch" if taken[_condition(node)] else "else_branch"
            _inline(model, node, node.attributes[branch].as_graph())
    return model


def _taken(names: Sequence[str], observed: Mapping[str, np.ndarray]) -> dict[str, bool]:
    """Return those of ``names`` that were observed to be always alike, and what they were."""
    seen = {name: np.unique(observed[name]) for name in names if name in observed}
    return {name: bool(values[0]) for name, values in seen.items() if len(values) == 1}


def _is_if(node: ir.Node) -> bool:
    return node.op_type == "If" and not node.domain


def _condition(node: ir.Node) -> str:
    value = node.inputs[0]
    return "" if value is None else str(value.name)


def take_apart(graph: ir.Graph) -> tuple[list[ir.Value], list[ir.Node], list[ir.Value]]:
    """Empty ``graph``, in place; return the initializers, nodes and outputs that it had."""
    initializers, nodes, outputs = [*graph.initializers.values()], [*graph], [*graph.outputs]
    for value in initializers:
        del graph.initializers[str(value.name)]
    graph.outputs.clear()
    graph.remove(nodes)
    return initializers, nodes, outputs


def _inline(model: ir.Model, node: ir.Node, branch: ir.Graph) -> None:
    """Put the nodes of ``branch`` in place of ``node``, under names that are free."""
    graph = model.graph
    names = Names(value_names(graph))
    initializers, moved, results = take_apart(branch)
    for initializer in initializers:
        initializer.name = names.fresh(f"{node.name}/{initializer.name}")
        graph.register_initializer(initializer)
    for inner in moved:
        for value in inner.outputs:
            value.name = names.fresh(f"{node.name}/{value.name}")
    copies = [ir.node("Identity", [result]) for result in results]
    graph.insert_before(node, [*moved, *copies])
    for old, copy in zip(node.outputs, copies, strict=True):
        new = copy.outputs[0]
        new.type, new.shape = old.type, old.shape
        name, old.name = old.name, names.fresh(f"{old.name}/untaken")
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name = name
    graph.remove(node, safe=True)
