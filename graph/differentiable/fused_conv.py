"""FusedConv, of onnxruntime's optimiser, has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.fused_activation import activate
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["fused_conv"]


@RULES.register("com.microsoft.FusedConv")
def fused_conv(node: ir.Node, op: Builder) -> Result:
    """Conv, Add, activation."""
    x, weight, bias, addend = op.inputs(4)
    attributes = {
        name: attribute.value
        for name, attribute in node.attributes.items()
        if not name.startswith("activation")
    }
    y = op.Conv(x, weight, bias, **attributes)
    if addend is not None:
        y = op.Add(y, addend)
    parameters = node.attributes.get_floats("activation_params", [])
    return activate(op, y, node.attributes.get_string("activation", ""), parameters)
