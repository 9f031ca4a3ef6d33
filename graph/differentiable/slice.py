"""Slice with a negative step makes its gradient crash, except in the simplest case."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["slice_"]


@RULES.register("Slice")
def slice_(node: ir.Node, op: Builder) -> Result:
    """Slice for the positive steps, Gather for the negative ones."""
    x, starts, ends, axes, steps = op.inputs(5)
    if steps is None or not op.is_constant(steps) or op.constant(steps).min() > 0:
        return None
    steps = op.constant(steps).tolist()
    starts, ends = op.constant(starts).tolist(), op.constant(ends).tolist()
    axes = range(len(steps)) if axes is None else op.constant(axes).tolist()
    shape = op.shape(x)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step > 0:
            x = op.Slice(x, [start], [end], [axis], [step])
        else:
            x = op.Gather(x, np.arange(shape[axis])[start:end:step], axis=axis)
    return x
