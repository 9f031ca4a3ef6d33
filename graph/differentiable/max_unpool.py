"""MaxUnpool has no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["max_unpool"]


@RULES.register("MaxUnpool")
def max_unpool(node: ir.Node, op: Builder) -> Result:
    """ScatterElements into zeros."""
    x, indices = op.inputs(2)
    shape = op.shape(node.outputs[0])
    zeros = np.zeros(int(np.prod(shape)), np.float32)
    flat = op.ScatterElements(zeros, op.Reshape(indices, [-1]), op.Reshape(x, [-1]), axis=0)
    return op.Reshape(flat, list(shape))
