"""Cutting channels out of a graph."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.trace import Axes, Stays, Trace

__all__ = ["remove_channels"]

# A stored tensor before and after.
Change = tuple[np.ndarray, np.ndarray]


def remove_channels(trace: Trace, gone: Collection[int] | np.ndarray) -> dict[str, Change]:
    """Remove the channels ``gone`` from the model of ``trace``, in place; the trace is used up.

    Constants in them that something reads are absorbed by its bias where it can take them. Returns
    the stored tensors that shrink, before and after, by name. Raises `ValueError` for a channel
    that has to stay, or if an axis would lose all its positions.
    """
    channel, pinned = trace.channels
    removed = np.isin(channel, np.asarray(list(gone), dtype=np.int64))
    if (removed & pinned).any():
        raise ValueError("a channel that has to stay is to be removed")

    def stays(labels: np.ndarray) -> np.ndarray:
        return ~removed[labels]

    for value, axes in trace.labelled.items():
        if any(a is not None and len(a) and not stays(a).any() for a in axes):
            raise ValueError(f"nothing would be left of {value.name}")
    for read in trace.reads:
        leaves = ~stays(read.labels) & ~read.zero & read.known & (read.values != 0)
        if leaves.any() and read.absorb is not None:
            read.absorb(np.where(leaves, read.values, 0.0))
    for change in trace.edits:
        change(stays)
    changes = {}
    for value, stored in trace.stored.items():
        before = stored.numpy()
        after = _cut(before, trace.axes(value), stays)
        if after.shape != before.shape:
            stored.write(after, resize=True)
            changes[str(value.name)] = (before, after)
    for value, axes in trace.labelled.items():
        _shrink(value, axes, stays)
    return changes


def _cut(array: np.ndarray, axes: Axes, stays: Stays) -> np.ndarray:
    for axis, labels in enumerate(axes):
        if labels is not None:
            array = np.compress(stays(labels), array, axis=axis)
    return array


def _shrink(value: ir.Value, axes: Axes, stays: Stays) -> None:
    """Write the new sizes into the shape that the graph states for ``value``, where it does."""
    if value.shape is None:
        return
    dims = list(value.shape)
    for axis, labels in enumerate(axes):
        if labels is not None and isinstance(dims[axis], int):
            dims[axis] = int(stays(labels).sum())
    value.shape = ir.Shape(dims)
