"""SkipLayerNormalization, of onnxruntime's optimiser, has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["skip_layer_normalization"]


@RULES.register("com.microsoft.SkipLayerNormalization")
def skip_layer_normalization(node: ir.Node, op: Builder) -> Result:
    """Adds, LayerNormalization."""
    x, skip, scale, shift, bias = op.inputs(5)
    if op.used(1) or op.used(2):
        return "its statistics are used"
    total = op.Add(x, skip) if bias is None else op.Add(op.Add(x, skip), bias)
    epsilon = node.attributes.get_float("epsilon", 1e-12)
    y = op.LayerNormalization(total, scale, shift, axis=-1, epsilon=epsilon)
    return [y, None, None, total if op.used(3) else None][: len(node.outputs)]
