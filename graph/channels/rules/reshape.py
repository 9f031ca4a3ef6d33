"""Reshape, Flatten, Squeeze and Unsqueeze: the elements stay in order, the axes do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.bias import set_constant
from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Edit, Stays, Trace
from onnx_unipts.graph.nodes import input_at

__all__ = ["flatten", "reshape", "squeeze", "unsqueeze"]

Dim = int | object
"""A size, or what stands for one that is not known: equal objects are equal sizes."""

Kept = Callable[[np.ndarray], np.ndarray]
# As many axes as this in front of heads are queries, keys and values.
PROJECTIONS = 3


@RULES.register("Flatten")
def flatten(node: ir.Node, trace: Trace) -> None:
    """Two axes: those before ``axis``, and the others."""
    dims = _dims(trace, node.inputs[0])
    axis = node.attributes.get_int("axis", 1)
    axis = axis + len(dims) if axis < 0 else axis
    _rearrange(node, trace, dims, [_product(dims[:axis]), _product(dims[axis:])])


@RULES.register("Squeeze")
def squeeze(node: ir.Node, trace: Trace) -> None:
    """Axes of size 1 go."""
    dims = _dims(trace, node.inputs[0])
    given = trace.numbers(node, "axes", 1)
    gone = {a % len(dims) for a in given} if given else {a for a, d in enumerate(dims) if d == 1}
    if given is None and not all(isinstance(dim, int) for dim in dims):
        raise CannotTraceError("which axes go is not known")
    _rearrange(node, trace, dims, [dim for axis, dim in enumerate(dims) if axis not in gone])


@RULES.register("Unsqueeze")
def unsqueeze(node: ir.Node, trace: Trace) -> None:
    """Axes of size 1 come."""
    dims = _dims(trace, node.inputs[0])
    given = trace.numbers(node, "axes", 1) or []
    rank = len(dims) + len(given)
    new, old = {axis % rank for axis in given}, iter(dims)
    _rearrange(node, trace, dims, [1 if axis in new else next(old) for axis in range(rank)])


@RULES.register("Reshape")
def reshape(node: ir.Node, trace: Trace) -> None:
    """The sizes are given, computed in part, or an attribute; a given one shrinks with its axis."""
    value, target = node.inputs[0], input_at(node, 1)
    dims = _dims(trace, value)
    entries = _entries(node, trace, target)
    after = _resolved(trace, node, dims, entries)
    labels = _rearrange(node, trace, dims, after)
    for place, each in enumerate(labels):
        if each is None or entries[place] in (0, -1):
            continue
        if entries[place] is None or not _replaceable(trace, target, place):
            raise CannotTraceError("the number of channels is computed")
        trace.edit(_resize(node, trace, place, each))


def _dims(trace: Trace, value: ir.Value | None) -> list[Dim]:
    if value is None:
        raise CannotTraceError("an input is missing")
    return [object() if dim is None else dim for dim in trace.dims(value)]


def _product(dims: Sequence[Dim]) -> Dim:
    unknown = [dim for dim in dims if not isinstance(dim, int)]
    known = math.prod(dim for dim in dims if isinstance(dim, int))
    if not unknown:
        return known
    return unknown[0] if len(unknown) == 1 and known == 1 else object()


def _entries(node: ir.Node, trace: Trace, target: ir.Value | None) -> list[int | None]:
    """Return the numbers of the target shape, None for each that the graph computes."""
    if target is None:
        return list(node.attributes.get_ints("shape", ()))
    known = trace.known(target)
    count = len(trace.dims(node.outputs[0]))
    if known is None:
        return [None] * count
    values, mask = (np.broadcast_to(a, count) for a in (known.values, known.mask))
    return [int(v) if m else None for v, m in zip(values, mask, strict=True)]


def _resolved(
    trace: Trace, node: ir.Node, dims: Sequence[Dim], entries: Sequence[int | None]
) -> list[Dim]:
    """Return the output's dims; where one cannot be told, what shape inference says."""
    copied = not node.attributes.get_int("allowzero", 0)
    inferred = trace.dims(node.outputs[0])
    after: list[Dim] = []
    for place, entry in enumerate(entries):
        if entry == 0 and copied:
            after.append(dims[place])
        elif entry is not None and entry > 0:
            after.append(entry)
        else:
            told = inferred[place]
            after.append(object() if told is None else told)
    rest = [place for place, entry in enumerate(entries) if entry == -1]
    others = [dim for place, dim in enumerate(after) if place not in rest]
    if rest and not isinstance(after[rest[0]], int):
        after[rest[0]] = _left_over(dims, others)
    return after


def _left_over(dims: Sequence[Dim], others: Sequence[Dim]) -> Dim:
    """Return what a -1 stands for, given all other sizes of the output."""
    left = [dim for dim in dims if not isinstance(dim, int)]
    for dim in others:
        if not isinstance(dim, int):
            if dim not in left:
                return object()
            left.remove(dim)
    whole = math.prod(dim for dim in dims if isinstance(dim, int))
    part = math.prod(dim for dim in others if isinstance(dim, int))
    if not left and part and whole % part == 0:
        return whole // part
    return left[0] if len(left) == 1 and whole == part else object()


def _replaceable(trace: Trace, target: ir.Value | None, place: int) -> bool:
    if target is None or trace.constant(target) is not None:
        return True
    producer = target.producer()
    return producer is not None and producer.op_type == "Concat" and len(producer.inputs) > place


def _resize(node: ir.Node, trace: Trace, place: int, labels: np.ndarray) -> Edit:
    def change(stays: Stays) -> None:
        size = int(stays(labels).sum())
        target = input_at(node, 1)
        if target is None:
            sizes = list(node.attributes.get_ints("shape", ()))
            sizes[place] = size
            node.attributes["shape"] = ir.AttrInt64s("shape", sizes)
        elif (given := trace.constant(target)) is not None:
            array = given.copy()
            array[place] = size
            set_constant(trace, node, 1, array)
        else:
            producer = target.producer()
            assert producer is not None
            set_constant(trace, producer, place, np.array([size], dtype=np.int64))

    return change


def _rearrange(
    node: ir.Node, trace: Trace, before: Sequence[Dim], after: Sequence[Dim]
) -> list[np.ndarray | None]:
    """Give the output its labels, and return them."""
    value = node.inputs[0]
    axes = trace.axes(value)
    given: list[np.ndarray | None] = [None] * len(after)
    for ins, outs in _groups(before, after):
        _pass_on(trace, [(axes[i], before[i]) for i in ins], after, outs, given)
    trace.give(node.outputs[0], given)
    if value is not None and trace.constant(node.outputs[0]) is None:
        _learn(node, trace, value, before, after)
    return given


def _groups(before: Sequence[Dim], after: Sequence[Dim]) -> list[tuple[list[int], list[int]]]:
    """Return runs of axes that hold the same elements before and after, the smallest there are."""
    first: list[tuple[list[int], list[int]]] = []
    last: list[tuple[list[int], list[int]]] = []
    ins, outs = list(range(len(before))), list(range(len(after)))
    while run := _run(before, after, ins, outs):
        first.append(run)
        ins, outs = ins[len(run[0]) :], outs[len(run[1]) :]
    while run := _run(before, after, ins[::-1], outs[::-1]):
        last.append((run[0][::-1], run[1][::-1]))
        ins, outs = ins[: len(ins) - len(run[0])], outs[: len(outs) - len(run[1])]
    return [*first, *([(ins, outs)] if ins or outs else []), *last[::-1]]


def _run(
    before: Sequence[Dim], after: Sequence[Dim], ins: list[int], outs: list[int]
) -> tuple[list[int], list[int]] | None:
    """Return the shortest run from the start of both with equal products, None without one."""
    i = j = 1
    if not ins or not outs:
        return None
    if before[ins[0]] is after[outs[0]] or before[ins[0]] == after[outs[0]]:
        return ins[:1], outs[:1]
    while i <= len(ins) and j <= len(outs):
        left, right = ([d[a] for a in axes] for d, axes in ((before, ins[:i]), (after, outs[:j])))
        if not all(isinstance(dim, int) for dim in (*left, *right)):
            return None
        a, b = math.prod(left), math.prod(right)  # type: ignore[arg-type]
        if a == b:
            return ins[:i], outs[:j]
        i, j = (i + 1, j) if a < b else (i, j + 1)
    return None


def _pass_on(
    trace: Trace,
    entering: list[tuple[np.ndarray | None, Dim]],
    after: Sequence[Dim],
    outs: list[int],
    given: list[np.ndarray | None],
) -> None:
    """Give the axes ``outs`` the labels of one run of axes that enter."""
    labelled = [place for place, (labels, _) in enumerate(entering) if labels is not None]
    trace.pin([entering[p][0] for p in labelled if entering[p][1] == 1], "an axis of one position")
    labelled = [place for place in labelled if entering[place][1] != 1]
    if not labelled:
        return
    sizes = [size for _, size in entering], [after[axis] for axis in outs]
    if len(labelled) > 1 or not all(isinstance(s, int) for each in sizes for s in each):
        trace.pin([entering[place][0] for place in labelled], "mixed with other axes")
        return
    (place,) = labelled
    labels = entering[place][0]
    assert labels is not None
    outer = math.prod(sizes[0][:place])  # type: ignore[arg-type]
    inner = math.prod(sizes[0][place + 1 :])  # type: ignore[arg-type]
    flat = np.tile(np.repeat(labels, inner), outer)
    axis, along = _carrier(flat, sizes[1])  # type: ignore[arg-type]
    trace.labels.tie(along, along[:, :1])
    given[outs[axis]] = along[:, 0]


def _carrier(flat: np.ndarray, sizes: list[int]) -> tuple[int, np.ndarray]:
    """Return which of the axes of ``sizes`` carries the labels, and them by position, (size, rest).

    One along whose positions each label stays by itself, if there is one; else the first, so that
    heads go as wholes, or the second behind an axis of queries, keys and values.
    """
    shaped = flat.reshape(sizes)
    by_axis = [np.moveaxis(shaped, a, 0).reshape(size, -1) for a, size in enumerate(sizes)]
    real = [axis for axis, size in enumerate(sizes) if size > 1]
    for axis in real:
        if (by_axis[axis] == by_axis[axis][:, :1]).all():
            return axis, by_axis[axis]
    second = len(real) > 2 and sizes[real[0]] <= PROJECTIONS
    axis = real[1 if second else 0] if real else 0
    return axis, by_axis[axis]


def _learn(
    node: ir.Node, trace: Trace, value: ir.Value, before: Sequence[Dim], after: Sequence[Dim]
) -> None:
    """Constants of channels stay so where channels stay on an axis of their own or are spread."""
    axes, given = trace.axes(value), trace.axes(node.outputs[0])
    ins = [axis for axis, labels in enumerate(axes) if labels is not None]
    outs = [axis for axis, labels in enumerate(given) if labels is not None]
    if len(ins) != 1 or len(outs) != 1:
        known = trace.known(value)
        if known is not None and known.values.size == 1 and not ins:
            shape = [1] * len(after)
            trace.learn(node.outputs[0], known.values.reshape(shape), known.mask.reshape(shape))
        return
    values, known_ = trace.known_along(value, ins[0])
    labels, spread = axes[ins[0]], given[outs[0]]
    assert labels is not None
    assert spread is not None
    if not np.isin(spread, labels).all() or len(np.unique(labels)) != len(labels):
        return
    order = np.argsort(labels)
    where = order[np.searchsorted(labels[order], spread)]
    if len(spread) >= len(labels):
        trace.learn_along(node.outputs[0], outs[0], values[where], known_[where])
