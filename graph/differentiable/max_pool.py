"""MaxPool in column-major storage order has a wrong gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["max_pool"]


@RULES.register("MaxPool")
def max_pool(node: ir.Node, op: Builder) -> Result:
    """MaxPool in row-major storage order."""
    if not node.attributes.get_int("storage_order", 0):
        return None
    if op.used(1):
        return "its indices are used, in column-major order"
    (x,) = op.inputs(1)
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    y = op.MaxPool(x, **{**attributes, "storage_order": 0})
    return [y, None][: len(node.outputs)]
