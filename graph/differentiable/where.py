"""Where has a gradient of the wrong shape for what it broadcasts."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["where"]


@RULES.register("Where")
def where(node: ir.Node, op: Builder) -> Result:
    """Where of expanded operands."""
    condition, yes, no = op.inputs(3)
    wide = [value for value in (yes, no) if not op.is_constant(value)]
    dims = op.dims(node.outputs[0])
    if all(op.dims(value) == dims for value in wide):
        return None
    shape = list(op.shape(node.outputs[0]))
    return op.Where(
        condition,
        *(op.Expand(value, shape) if value in wide else value for value in (yes, no)),
    )
