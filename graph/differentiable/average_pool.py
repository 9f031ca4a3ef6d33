"""AveragePool: a wrong gradient in 3-D, with dilations, with SAME_LOWER, with a dynamic batch."""

from functools import reduce

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.padding import explicit_pads
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["average_pool"]


@RULES.register("AveragePool")
def average_pool(node: ir.Node, op: Builder) -> Result:
    """Constant depthwise Conv."""
    (x,) = op.inputs(1)
    attributes = node.attributes
    kernel = attributes.get_ints("kernel_shape", [])
    ones = [1] * len(kernel)
    strides = attributes.get_ints("strides", ones)
    dilations = attributes.get_ints("dilations", ones)
    lower = attributes.get_string("auto_pad", "NOTSET") == "SAME_LOWER"
    if op.rank(x) < 5 and None not in op.dims(x) and max(dilations) == 1 and not lower:
        return None
    channels, *sizes = op.shape(x, skip=1)
    _, *outputs = op.shape(node.outputs[0], skip=1)
    pads = explicit_pads(node, sizes, kernel)
    include = attributes.get_int("count_include_pad", 0)
    counts, ends = [], []
    for axis, size in enumerate(sizes):
        starts = np.arange(outputs[axis]) * strides[axis] - pads[axis]
        touched = starts[:, None] + np.arange(kernel[axis]) * dilations[axis]
        inside = (touched >= 0) & (touched < size)
        counts.append((inside | bool(include)).sum(axis=1))
        ends.append(max(0, int(touched[-1, -1]) + 1 - size))
    total = op.Conv(
        x,
        np.ones((channels, 1, *kernel), np.float32),
        group=channels,
        strides=strides,
        dilations=dilations,
        pads=pads[: len(sizes)] + ends,
    )
    return op.Mul(total, 1.0 / reduce(np.multiply.outer, counts))
