"""ScatterND and ScatterElements that add have a wrong gradient for what they add to."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["scatter_nd"]


@RULES.register("ScatterND", "ScatterElements")
def scatter_nd(node: ir.Node, op: Builder) -> Result:
    """Add of the data and the same operator on zeros."""
    reduction = node.attributes.get_string("reduction", "none")
    data, indices, updates = op.inputs(3)
    if reduction == "none" or op.is_constant(data):
        return None
    if reduction != "add":
        return f"reduction {reduction} has no known gradient"
    scatter = getattr(op, node.op_type)
    zeros = np.zeros(op.shape(data), np.float32)
    axis = {"axis": node.attributes.get_int("axis", 0)} if node.op_type == "ScatterElements" else {}
    return op.Add(data, scatter(zeros, indices, updates, reduction="add", **axis))
