"""SkipSimplifiedLayerNormalization, of onnxruntime's optimiser, has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["skip_simplified_layer_normalization"]


@RULES.register("com.microsoft.SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(node: ir.Node, op: Builder) -> Result:
    """Add, then x / Sqrt(mean of squares + epsilon) * scale."""
    x, skip, scale, bias = op.inputs(4)
    if bias is not None:
        return "it has a bias, which onnxruntime ignores"
    if op.used(1) or op.used(2):
        return "its statistics are used"
    total = op.Add(x, skip)
    power = op.reduce("ReduceMean", op.Mul(total, total), [op.rank(x) - 1])
    size = op.Sqrt(op.Add(power, node.attributes.get_float("epsilon", 1e-12)))
    y = op.Mul(op.Div(total, size), scale)
    return [y, None, None, total if op.used(3) else None][: len(node.outputs)]
