"""If has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.body import inlined, require_feasible
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["if_"]


@RULES.register("If")
def if_(node: ir.Node, op: Builder) -> Result:
    """Both branches, and Where."""
    (condition,) = op.inputs(1)
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    for branch in branches:
        require_feasible(branch, 1)
    pairs = list(zip(*(inlined(op, branch, []) for branch in branches), strict=True))
    if any(not isinstance(value.type, ir.TensorType) for pair in pairs for value in pair):
        return "its branches make values of unknown type"
    if any(op.shape(yes) != op.shape(no) for yes, no in pairs):
        return "its branches make values of different shapes"
    if op.rank(condition):
        condition = op.Reshape(condition, op.value([]))
    return [op.Where(condition, yes, no) for yes, no in pairs]
