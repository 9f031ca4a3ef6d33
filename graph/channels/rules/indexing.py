"""Shape and Gather: reading sizes, and taking single positions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Trace

__all__ = ["gather", "shape"]


@RULES.register("Shape")
def shape(node: ir.Node, trace: Trace) -> None:
    """What reads the size of a labelled axis keeps its positions; other sizes are known."""
    value = node.inputs[0]
    if value is None:
        raise CannotTraceError("an input is missing")
    axes, dims = trace.axes(value), trace.dims(value)
    start, end, _ = slice(
        node.attributes.get_int("start", 0), node.attributes.get_int("end", len(dims))
    ).indices(len(dims))
    read = _read(node, trace, end - start)
    trace.pin([axes[start + place] for place in read], "its number is computed with")
    sizes = [size if isinstance(size, int) else -1 for size in dims[start:end]]
    fixed = [size >= 0 and axes[start + i] is None for i, size in enumerate(sizes)]
    trace.give(node.outputs[0], (None,))
    trace.learn(node.outputs[0], np.array(sizes, dtype=np.int64), np.array(fixed, dtype=bool))


def _read(node: ir.Node, trace: Trace, count: int) -> list[int]:
    """Return which of the sizes are used, where single ones are gathered; else all."""
    places: set[int] = set()
    for user, index in node.outputs[0].uses():
        if user.op_type == "Gather" and index == 0 and not user.domain:
            indices = trace.constant(user.inputs[1]) if user.inputs[1] is not None else None
            if indices is None and user.inputs[1] is not None:
                tensor = ir.convenience.get_const_tensor(user.inputs[1])
                indices = None if tensor is None else tensor.numpy()
            if indices is not None:
                places |= {int(i) % count for i in indices.reshape(-1)}
                continue
        return list(range(count))
    if node.outputs[0].is_graph_output():
        return list(range(count))
    return sorted(places)


@RULES.register("Gather")
def gather(node: ir.Node, trace: Trace) -> None:
    """The axis that is indexed keeps its positions; the others pass."""
    data, indices = node.inputs
    if data is None or indices is None:
        raise CannotTraceError("an input is missing")
    axes = trace.axes(data)
    axis = node.attributes.get_int("axis", 0) % len(axes)
    trace.pin([axes[axis]], "single positions are taken")
    trace.pin(trace.axes(indices), "indices")
    inserted = [None] * trace.rank(indices)
    trace.give(node.outputs[0], [*axes[:axis], *inserted, *axes[axis + 1 :]])
    known, chosen = trace.known(data), trace.constant(indices)
    if known is None or chosen is None or trace.constant(node.outputs[0]) is not None:
        return
    if len(axes) == 1:
        trace.learn(node.outputs[0], known.values[chosen], np.asarray(known.mask[chosen]))
