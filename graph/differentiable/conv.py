"""Conv with auto_pad SAME_UPPER or SAME_LOWER has a wrong gradient: it is that of zero padding."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.padding import explicit_pads
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["conv"]


@RULES.register("Conv")
def conv(node: ir.Node, op: Builder) -> Result:
    """Conv with explicit pads."""
    if node.attributes.get_string("auto_pad", "NOTSET") not in ("SAME_UPPER", "SAME_LOWER"):
        return None
    x, weight, bias = op.inputs(3)
    kernel = op.shape(weight)[2:]
    pads = explicit_pads(node, [d or 0 for d in op.dims(x)[2:]], kernel)
    return op.Conv(
        *[value for value in (x, weight, bias) if value is not None],
        pads=pads,
        strides=node.attributes.get_ints("strides"),
        dilations=node.attributes.get_ints("dilations"),
        group=node.attributes.get_int("group", 1),
    )
