"""SimplifiedLayerNormalization, of onnxruntime: a gradient only with both outputs."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["simplified_layer_normalization"]


@RULES.register("SimplifiedLayerNormalization")
def simplified_layer_normalization(node: ir.Node, op: Builder) -> Result:
    """x / Sqrt(mean of squares + epsilon) * scale."""
    x, scale = op.inputs(2)
    if op.used(1):
        return None
    axis = node.attributes.get_int("axis", -1)
    axes = list(range(axis % op.rank(x), op.rank(x)))
    power = op.reduce("ReduceMean", op.Mul(x, x), axes)
    size = op.Sqrt(op.Add(power, node.attributes.get_float("epsilon", 1e-5)))
    return [op.Mul(op.Div(x, size), scale), None][: len(node.outputs)]
