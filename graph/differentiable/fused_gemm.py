"""FusedGemm, of onnxruntime's optimiser, has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.fused_activation import activate
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["fused_gemm"]


@RULES.register("com.microsoft.FusedGemm")
def fused_gemm(node: ir.Node, op: Builder) -> Result:
    """Gemm, activation."""
    attributes = {
        name: attribute.value
        for name, attribute in node.attributes.items()
        if not name.startswith("activation")
    }
    get = node.attributes.get_float
    parameters = [get("activation_alpha", 0.0), get("activation_beta", 0.0)]
    y = op.Gemm(*op.inputs(3), **attributes)
    return activate(op, y, node.attributes.get_string("activation", ""), parameters)
