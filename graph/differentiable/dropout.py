"""Dropout in inference mode has no gradient without its mask output."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["dropout"]


@RULES.register("Dropout")
def dropout(node: ir.Node, op: Builder) -> Result:
    """Identity."""
    x, _, training = op.inputs(3)
    if not op.is_constant(training) or (training is not None and op.constant(training).any()):
        return "it drops values in inference, too"
    mask = op.Equal(x, x) if op.used(1) else None
    return [op.Identity(x), mask][: len(node.outputs)]
