"""CenterCropPad has no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["center_crop_pad"]


@RULES.register("CenterCropPad")
def center_crop_pad(node: ir.Node, op: Builder) -> Result:
    """Pad, by a negative amount where it crops."""
    x, target = op.inputs(2)
    shape = op.shape(x)
    sizes = op.constant(target).tolist()
    axes = node.attributes.get_ints("axes", range(len(shape)))
    pads = np.zeros((2, len(shape)), np.int64)
    for axis, size in zip(axes, sizes, strict=True):
        extra = size - shape[axis]
        begin = extra // 2 if extra > 0 else -(-extra // 2)
        pads[:, axis] = begin, extra - begin
    return op.Pad(x, pads.reshape(-1))
