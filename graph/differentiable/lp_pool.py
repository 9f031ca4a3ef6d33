"""LpPool has no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.padding import explicit_pads
from onnx_unipts.graph.differentiable.root import root
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["lp_pool"]


@RULES.register("LpPool")
def lp_pool(node: ir.Node, op: Builder) -> Result:
    """(constant depthwise Conv of |x|^p)^(1/p)."""
    (x,) = op.inputs(1)
    channels, *sizes = op.shape(x, skip=1)
    kernel = node.attributes.get_ints("kernel_shape", [])
    ones = [1] * len(kernel)
    strides = node.attributes.get_ints("strides", ones)
    dilations = node.attributes.get_ints("dilations", ones)
    pads = explicit_pads(node, sizes, kernel)
    for axis, outputs in enumerate(op.shape(node.outputs[0], skip=2)):
        reach = (outputs - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        pads[axis + len(kernel)] = max(0, reach - sizes[axis] - pads[axis])
    p = node.attributes.get_int("p", 2)
    total = op.Conv(
        op.Pow(op.Abs(x), float(p)),
        np.ones((channels, 1, *kernel), np.float32),
        group=channels,
        strides=strides,
        dilations=dilations,
        pads=pads,
    )
    return root(op, total, p)
