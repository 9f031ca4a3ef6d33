"""GroupNormalization has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.differentiable.standardize import standardize

__all__ = ["group_normalization"]


@RULES.register("GroupNormalization")
def group_normalization(node: ir.Node, op: Builder) -> Result:
    """Reshape to groups, (x - mean) / Sqrt(var + epsilon), Reshape back, scale and bias."""
    x, scale, bias = op.inputs(3)
    groups = node.attributes.get_int("num_groups", 1)
    grouped = op.Reshape(x, [0, groups, -1])
    y = standardize(op, grouped, [2], node.attributes.get_float("epsilon", 1e-5))
    y = op.Reshape(y, op.Shape(x))
    channels = op.shape(x, skip=1)[0]
    ones = [1] * (op.rank(x) - 2)
    if op.opset < 21:  # scale and bias are per group, not per channel
        repeats = [groups, channels // groups]
        scale = op.Expand(op.Unsqueeze(scale, [1]), repeats)
        bias = op.Expand(op.Unsqueeze(bias, [1]), repeats)
    scale, bias = op.Reshape(scale, [channels, *ones]), op.Reshape(bias, [channels, *ones])
    return op.Add(op.Mul(y, scale), bias)
