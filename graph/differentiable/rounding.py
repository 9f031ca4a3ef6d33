"""Step functions have no gradient; it is zero, and must not stop the others."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["rounding"]


@RULES.register("Ceil", "Floor", "Hardmax", "Round", "Sign")
def rounding(node: ir.Node, op: Builder) -> Result:
    """The same behind a Cast to integers, which no gradient passes."""
    (x,) = op.inputs(1)
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    return op.truncate(getattr(op, node.op_type)(x, **attributes))
