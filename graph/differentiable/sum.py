"""Sum has no gradient."""

from functools import reduce

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["sum_"]


@RULES.register("Sum")
def sum_(node: ir.Node, op: Builder) -> Result:
    """Adds."""
    return reduce(op.Add, node.inputs)
