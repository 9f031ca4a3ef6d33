"""Pad has no gradient by reflection, edge or wrap, and a broken one with chosen axes."""

from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["pad"]


@RULES.register("Pad")
def pad(node: ir.Node, op: Builder) -> Result:
    """Concat of what is gathered for either end, or Pad that lists all axes."""
    x, pads, value, axes = op.inputs(4)
    mode = node.attributes.get_string("mode", "constant")
    if mode == "constant" and axes is None:
        return None
    dims = op.dims(x)
    amounts = np.zeros((2, len(dims)), np.int64)
    chosen = list(range(len(dims))) if axes is None else op.constant(axes).tolist()
    amounts[:, chosen] = op.constant(pads).reshape(2, -1)
    if mode == "constant":
        return op.Pad(x, amounts.reshape(-1), value)
    for axis, (begin, end) in enumerate(amounts.T.tolist()):
        size = dims[axis]
        if begin == end == 0:
            continue
        if size is None:
            return f"the size of axis {axis} is not static"
        x = _padded(op, x, axis, size, begin, end, mode)
    return x


def _padded(
    op: Builder, x: ir.Value, axis: int, size: int, begin: int, end: int, mode: Any
) -> ir.Value:
    """Pad one axis; a negative amount cuts off. The kept part is not gathered: that is slow."""
    first, last = max(-begin, 0), size - max(-end, 0)
    begin, end = max(begin, 0), max(end, 0)
    indices = np.pad(np.arange(first, last), (begin, end), mode=mode)
    parts = [x if last - first == size else op.Slice(x, [first], [last], [axis])]
    if begin:
        parts.insert(0, op.Gather(x, indices[:begin], axis=axis))
    if end:
        parts.append(op.Gather(x, indices[len(indices) - end :], axis=axis))
    return op.Concat(*parts, axis=axis) if len(parts) > 1 else parts[0]
