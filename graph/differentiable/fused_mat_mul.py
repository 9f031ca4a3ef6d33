"""FusedMatMul, of onnxruntime's optimiser, has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["fused_mat_mul"]


@RULES.register("com.microsoft.FusedMatMul", "com.microsoft.TransposeMatMul")
def fused_mat_mul(node: ir.Node, op: Builder) -> Result:
    """Transpose, MatMul, constant factor."""
    left, right = op.inputs(2)
    left = _transposed(op, left, node, "A")
    right = _transposed(op, right, node, "B")
    alpha = node.attributes.get_float("alpha", 1.0)
    y = op.MatMul(left, right)
    return y if alpha == 1.0 else op.Mul(y, alpha)


def _transposed(op: Builder, x: ir.Value, node: ir.Node, side: str) -> ir.Value:
    """Return ``x`` with the first axis moved before the last one (transBatch), then transposed."""
    order = list(range(op.rank(x)))
    if node.attributes.get_int(f"transBatch{side}", 0) and len(order) > 2:
        order = [*order[1:-1], 0, order[-1]]
    if node.attributes.get_int(f"trans{side}", 0) and len(order) > 1:
        order[-2:] = order[:-3:-1]
    return x if order == sorted(order) else op.Transpose(x, perm=order)
