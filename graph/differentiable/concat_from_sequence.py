"""ConcatFromSequence has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.differentiable.sequence import elements_of

__all__ = ["concat_from_sequence"]


@RULES.register("ConcatFromSequence")
def concat_from_sequence(node: ir.Node, op: Builder) -> Result:
    """Concat of the elements."""
    (sequence,) = op.inputs(1)
    axis = node.attributes.get_int("axis", 0)
    elements = elements_of(op, sequence)
    if node.attributes.get_int("new_axis", 0):
        elements = [op.Unsqueeze(element, [axis]) for element in elements]
    return op.Concat(*elements, axis=axis)
