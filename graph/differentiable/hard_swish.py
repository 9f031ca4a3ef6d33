"""HardSwish has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["hard_swish"]


@RULES.register("HardSwish")
def hard_swish(node: ir.Node, op: Builder) -> Result:
    """x * Clip(x / 6 + 1/2, 0, 1)."""
    (x,) = op.inputs(1)
    return op.Mul(x, op.Clip(op.Add(op.Mul(x, 1 / 6), 0.5), 0.0, 1.0))
