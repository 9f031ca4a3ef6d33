"""Concat puts the channels of its inputs one behind the other."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Known, Trace

__all__ = ["concat"]


@RULES.register("Concat")
def concat(node: ir.Node, trace: Trace) -> None:
    """Labels are joined along the axis, and tied along all others."""
    values = [value for value in node.inputs if value is not None]
    rank = trace.rank(values[0])
    axis = node.attributes.get_int("axis", 1) % rank
    everything = [trace.axes(value) for value in values]
    given: list[np.ndarray | None] = list(everything[0])
    for axes in everything[1:]:
        for other in range(rank):
            if other != axis:
                trace.tie(given[other], axes[other], "beside positions that stay")
                given[other] = given[other] if axes[other] is not None else None
    given[axis] = _joined(trace, values, axis)
    trace.give(node.outputs[0], given)
    _learn(node, trace, values, axis)


def _joined(trace: Trace, values: list[ir.Value], axis: int) -> np.ndarray | None:
    parts = [trace.axes(value)[axis] for value in values]
    if all(part is None for part in parts):
        return None
    sizes = [trace.dims(value)[axis] for value in values]
    if not all(isinstance(size, int) for size in sizes):
        raise CannotTraceError("an input has an unknown number of channels")
    joined = []
    for part, size in zip(parts, sizes, strict=True):
        if part is None:
            part = trace.labels.fresh(int(size or 0))
            trace.labels.pin(part, "comes from an input whose channels stay")
        joined.append(part)
    return np.concatenate(joined)


def _learn(node: ir.Node, trace: Trace, values: list[ir.Value], axis: int) -> None:
    sizes = [trace.dims(value)[axis] for value in values]
    if trace.constant(node.outputs[0]) is not None or not all(isinstance(s, int) for s in sizes):
        return
    known = [trace.known(value) for value in values]
    present = [each for each in known if each is not None]
    if not present:
        return
    rank = present[0].values.ndim
    shape = [max(each.values.shape[a] for each in present) for a in range(rank)]
    parts = []
    for each, size in zip(known, sizes, strict=True):
        shape[axis] = size
        nothing = Known(np.zeros([1] * rank), np.zeros([1] * rank, dtype=bool))
        part = each or nothing
        parts.append((np.broadcast_to(part.values, shape), np.broadcast_to(part.mask, shape)))
    trace.learn(
        node.outputs[0],
        np.concatenate([v for v, _ in parts], axis=axis),
        np.concatenate([m for _, m in parts], axis=axis),
    )
