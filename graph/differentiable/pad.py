"""Pad has no gradient by reflection, edge or wrap, and a broken one with chosen axes."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["pad"]


@RULES.register("Pad")
def pad(node: ir.Node, op: Builder) -> Result:
    """Gather along each padded axis, or Pad that lists all axes."""
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
        kept = np.arange(size)[max(-begin, 0) : size - max(-end, 0)]
        x = op.Gather(x, np.pad(kept, (max(begin, 0), max(end, 0)), mode=mode), axis=axis)
    return x
