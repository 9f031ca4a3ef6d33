"""ReduceMax and ReduceMin have no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["reduce_max"]


@RULES.register("ReduceMax", "ReduceMin")
def reduce_max(node: ir.Node, op: Builder) -> Result:
    """TopK with k = 1 over the reduced axes."""
    (x,) = op.inputs(1)
    shape = op.shape(x)
    axes = op.axes(len(shape))
    if not axes:
        return op.Identity(x)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    rows = op.Transpose(x, perm=kept + axes)
    rows = op.Reshape(rows, [*(shape[axis] for axis in kept), -1])
    largest = int(node.op_type == "ReduceMax")
    best, _ = op.TopK(rows, [1], axis=-1, largest=largest, _outputs=2)
    keepdims = node.attributes.get_int("keepdims", 1)
    sizes = [1 if a in axes else shape[a] for a in range(len(shape)) if keepdims or a in kept]
    return op.Reshape(best, np.array(sizes, np.int64))
