"""Split and Slice take consecutive channels out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.bias import set_constant
from onnx_unipts.graph.channels.trace import (
    RULES,
    CannotTraceError,
    Edit,
    Known,
    Stays,
    Trace,
)
from onnx_unipts.graph.nodes import input_at

__all__ = ["slice_", "split"]


@RULES.register("Split")
def split(node: ir.Node, trace: Trace) -> None:
    """Each output has its part of the labels along the axis."""
    value = node.inputs[0]
    axes = list(trace.axes(value))
    axis = node.attributes.get_int("axis", 0) % len(axes)
    labels = axes[axis]
    if labels is None:
        for output in node.outputs:
            trace.give(output, axes)
        return
    sizes = trace.numbers(node, "split", 1) or _equal(len(labels), len(node.outputs))
    ends = np.cumsum(sizes)
    parts = np.split(labels, ends[:-1])
    for output, part, end, size in zip(node.outputs, parts, ends, sizes, strict=True):
        axes[axis] = part
        trace.give(output, axes)
        _learn(trace, value, output, axis, slice(int(end) - size, int(end)))  # type: ignore[arg-type]
    trace.edit(lambda stays: _set_sizes(node, trace, [int(stays(part).sum()) for part in parts]))


def _equal(length: int, count: int) -> list[int]:
    """Return the sizes of ``count`` parts; the last one is smaller where they are uneven."""
    size = -(-length // count)
    return [*[size] * (count - 1), length - size * (count - 1)]


def _set_sizes(node: ir.Node, trace: Trace, sizes: list[int]) -> None:
    if trace.opset < 13:
        node.attributes["split"] = ir.AttrInt64s("split", sizes)
        return
    node.attributes.pop("num_outputs", None)
    node.resize_inputs(2)
    set_constant(trace, node, 1, np.array(sizes, dtype=np.int64))


@RULES.register("Slice")
def slice_(node: ir.Node, trace: Trace) -> None:
    """Every labelled axis passes whole, or in one piece."""
    value = node.inputs[0]
    axes = list(trace.axes(value))
    if all(labels is None for labels in axes):
        trace.give(node.outputs[0], axes)
        return
    starts, ends = trace.numbers(node, "starts", 1), trace.numbers(node, "ends", 2)
    assert starts is not None
    assert ends is not None
    cut = trace.numbers(node, "axes", 3) or list(range(len(starts)))
    steps = trace.numbers(node, "steps", 4) or [1] * len(starts)
    for place, axis in enumerate(cut):
        labels = axes[axis % len(axes)]
        if labels is None:
            continue
        if steps[place] != 1:
            raise CannotTraceError("it takes every other channel")
        begin, end, _ = slice(starts[place], ends[place]).indices(len(labels))
        axes[axis % len(axes)] = labels[begin:end]
        trace.edit(_mover(node, trace, place, labels, begin, end))
        _learn(trace, value, node.outputs[0], axis % len(axes), slice(begin, end))  # type: ignore[arg-type]
    trace.give(node.outputs[0], axes)


def _mover(
    node: ir.Node, trace: Trace, place: int, labels: np.ndarray, begin: int, end: int
) -> Edit:
    def change(stays: Stays) -> None:
        remaining = stays(labels)
        numbers = int(remaining[:begin].sum()), int(remaining[:end].sum())
        for index, (name, number) in enumerate(zip(("starts", "ends"), numbers, strict=True), 1):
            given = trace.numbers(node, name, index)
            assert given is not None
            given[place] = number
            if name in node.attributes:
                node.attributes[name] = ir.AttrInt64s(name, given)
            else:
                dtype = trace.require_constant(input_at(node, index), name).dtype
                set_constant(trace, node, index, np.array(given, dtype=dtype))

    return change


def _learn(trace: Trace, value: ir.Value, output: ir.Value, axis: int, part: slice) -> None:
    known = trace.known(value)
    if known is None or trace.constant(output) is not None:
        return
    whole = known.values.shape[axis] == 1
    index = tuple(
        part if a == axis and not whole else slice(None) for a in range(known.values.ndim)
    )
    if all(size == 1 for a, size in enumerate(known.values.shape) if a != axis):
        found = Known(known.values[index], known.mask[index])
        trace.learn(output, found.values, found.mask)
