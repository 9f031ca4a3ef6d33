"""BatchNormalization in inference mode would be differentiated as if it trained."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["batch_normalization"]


@RULES.register("BatchNormalization")
def batch_normalization(node: ir.Node, op: Builder) -> Result:
    """x * k + c with k = scale / sqrt(var + epsilon), c = bias - mean * k."""
    if node.attributes.get_int("training_mode", 0):
        return None  # meant to train: its gradient is right
    x, scale, bias, mean, variance = op.inputs(5)
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    factor = op.Div(scale, op.Sqrt(op.Add(variance, epsilon)))
    offset = op.Sub(bias, op.Mul(mean, factor))
    spatial = list(range(1, op.rank(x) - 1))
    if spatial:
        factor, offset = op.Unsqueeze(factor, spatial), op.Unsqueeze(offset, spatial)
    return op.Add(op.Mul(x, factor), offset)
