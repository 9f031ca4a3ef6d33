"""SequenceAt has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.differentiable.sequence import elements_of

__all__ = ["sequence_at"]


@RULES.register("SequenceAt")
def sequence_at(node: ir.Node, op: Builder) -> Result:
    """The element itself, a Slice of what was split."""
    sequence, position = op.inputs(2)
    elements = elements_of(op, sequence)
    return op.Identity(elements[int(op.constant(position))])
