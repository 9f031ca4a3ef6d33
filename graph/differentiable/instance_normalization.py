"""InstanceNormalization has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.differentiable.standardize import standardize

__all__ = ["instance_normalization"]


@RULES.register("InstanceNormalization")
def instance_normalization(node: ir.Node, op: Builder) -> Result:
    """(x - mean) / Sqrt(var + epsilon) * scale + bias, by ReduceMean."""
    x, scale, bias = op.inputs(3)
    spatial = list(range(2, op.rank(x)))
    y = standardize(op, x, spatial, node.attributes.get_float("epsilon", 1e-5))
    per_channel = list(range(1, op.rank(x) - 1))
    scale, bias = op.Unsqueeze(scale, per_channel), op.Unsqueeze(bias, per_channel)
    return op.Add(op.Mul(y, scale), bias)
