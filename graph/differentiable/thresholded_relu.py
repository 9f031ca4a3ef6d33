"""ThresholdedRelu has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["thresholded_relu"]


@RULES.register("ThresholdedRelu")
def thresholded_relu(node: ir.Node, op: Builder) -> Result:
    """Where(x > alpha, x, 0)."""
    (x,) = op.inputs(1)
    return op.Where(op.Greater(x, node.attributes.get_float("alpha", 1.0)), x, 0.0)
