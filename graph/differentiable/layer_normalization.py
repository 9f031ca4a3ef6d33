"""LayerNormalization has a gradient only if its statistics are outputs and it has a bias."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["layer_normalization"]


@RULES.register("LayerNormalization")
def layer_normalization(node: ir.Node, op: Builder) -> Result:
    """LayerNormalization with all three outputs."""
    x, scale, bias = op.inputs(3)
    if len(node.outputs) == 3 and bias is not None:
        return None
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if bias is None:
        bias = op.Mul(scale, 0.0)
    outputs = op.LayerNormalization(x, scale, bias, **attributes, _outputs=3)
    return outputs[: len(node.outputs)]
