"""Which axis of a stored tensor each axis of an operand is, behind a chain of operators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from onnx_unipts.graph.model import StoredTensor
from onnx_unipts.graph.nodes import given_integers, integers, static_shape

__all__ = ["stored_axes"]

_Stored = Mapping[ir.Value, StoredTensor]
_RESHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


def stored_axes(
    shape: tuple[int, ...], chain: Sequence[ir.Node], stored: _Stored
) -> list[int | None] | None:
    """Return for each axis of the operand the axis of the tensor of ``shape`` it is, or None.

    None instead of a list where not even the rank of the operand can be told.
    """
    axes: list[int | None] = list(range(len(shape)))
    for node in chain:
        if node.op_type == "Transpose":
            order = integers(node, "perm") or range(len(shape))[::-1]
            axes = [axes[axis] for axis in order]
            shape = tuple(shape[axis] for axis in order)
        elif node.op_type in _RESHAPING:
            target = _reshaped(shape, node, stored)
            if target is None:
                return None
            axes = _match_axes(shape, target, axes)
            shape = target
    return axes


def _reshaped(shape: tuple[int, ...], node: ir.Node, stored: _Stored) -> tuple[int, ...] | None:
    """Return the shape after a Reshape, Squeeze, Unsqueeze or Flatten."""
    if node.op_type == "Flatten":
        axis = next(iter(integers(node, "axis") or [1]))
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    name = "shape" if node.op_type == "Reshape" else "axes"
    numbers = given_integers(node, name, 1, lambda v: stored[v].numpy() if v in stored else None)
    if node.op_type == "Reshape" and numbers is not None:
        return _fill_in(shape, numbers)
    if node.op_type == "Squeeze" and numbers is None and len(node.inputs) < 2:
        return tuple(size for size in shape if size != 1)
    if node.op_type == "Squeeze" and numbers is not None:
        gone = {axis % len(shape) for axis in numbers}
        return tuple(size for axis, size in enumerate(shape) if axis not in gone)
    if node.op_type == "Unsqueeze" and numbers is not None:
        rank = len(shape) + len(numbers)
        new, sizes = {axis % rank for axis in numbers}, iter(shape)
        return tuple(1 if axis in new else next(sizes) for axis in range(rank))
    return static_shape(node.outputs[0])


def _fill_in(shape: tuple[int, ...], target: list[int]) -> tuple[int, ...]:
    """Resolve the 0 (as before) and -1 (what is left) of a Reshape."""
    sizes = [
        shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(target)
    ]
    rest = math.prod(size for size in sizes if size != -1) or 1
    return tuple(math.prod(shape) // rest if size == -1 else size for size in sizes)


def _match_axes(
    shape: tuple[int, ...], target: tuple[int, ...], axes: list[int | None]
) -> list[int | None]:
    """Return the ``axes`` that a reshape from ``shape`` to ``target`` leaves whole.

    An axis is whole if it has the same size and the same number of elements before it.
    """
    where = {
        (math.prod(shape[:axis]), size): axes[axis] for axis, size in reversed([*enumerate(shape)])
    }
    return [where.get((math.prod(target[:axis]), size)) for axis, size in enumerate(target)]
