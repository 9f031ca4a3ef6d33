"""Which axes a reduction goes over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.nodes import given_integers, input_at

__all__ = ["reduced_axes"]


def _stored(value: ir.Value) -> np.ndarray | None:
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def reduced_axes(
    node: ir.Node, rank: int, constant: Callable[[ir.Value], np.ndarray | None] = _stored
) -> list[int] | None:
    """Return the axes that a ReduceMean, ReduceSum ... goes over, sorted and counted from 0.

    They are an attribute, or the second input of newer opsets, which ``constant`` looks up; without
    any it is all of them, or none with ``noop_with_empty_axes``. ``rank`` is that of the first
    input. Returns None where the axes are computed.
    """
    given = given_integers(node, "axes", 1, constant)
    if given is None and input_at(node, 1) is not None:
        return None
    noop = node.attributes.get_int("noop_with_empty_axes", 0)
    if not given and noop:
        return []
    return sorted({axis % rank for axis in given or range(rank)})
