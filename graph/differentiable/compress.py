"""Compress has no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["compress"]


@RULES.register("Compress")
def compress(node: ir.Node, op: Builder) -> Result:
    """Gather of what the constant condition keeps."""
    x, condition = op.inputs(2)
    kept = np.flatnonzero(op.constant(condition))
    axis = node.attributes.get_int("axis")
    if axis is None:
        return op.Gather(op.Reshape(x, [-1]), kept, axis=0)
    return op.Gather(x, kept, axis=axis)
