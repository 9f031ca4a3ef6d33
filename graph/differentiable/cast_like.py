"""CastLike has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["cast_like"]


@RULES.register("CastLike")
def cast_like(node: ir.Node, op: Builder) -> Result:
    """Cast."""
    x, other = op.inputs(2)
    return op.cast_like(x, other) if other.dtype is not None else "its type is unknown"
