"""Mean has no gradient."""

from functools import reduce

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["mean"]


@RULES.register("Mean")
def mean(node: ir.Node, op: Builder) -> Result:
    """Adds and a constant factor."""
    return op.Mul(reduce(op.Add, node.inputs), 1 / len(node.inputs))
