"""MeanVarianceNormalization has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.differentiable.standardize import standardize

__all__ = ["mean_variance_normalization"]


EPSILON = 1e-9  # the specification's, added to the variance


@RULES.register("MeanVarianceNormalization")
def mean_variance_normalization(node: ir.Node, op: Builder) -> Result:
    """(x - mean) / Sqrt(var + 1e-9), by ReduceMean."""
    (x,) = op.inputs(1)
    return standardize(op, x, node.attributes.get_ints("axes", [0, 2, 3]), EPSILON)
