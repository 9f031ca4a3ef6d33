"""ReduceProd has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["reduce_prod"]


@RULES.register("ReduceProd")
def reduce_prod(node: ir.Node, op: Builder) -> Result:
    """Mul of halves, again and again."""
    (x,) = op.inputs(1)
    shape = op.shape(x)
    axes = op.axes(len(shape))
    y = x
    for axis in axes:
        y = _product(op, y, axis, shape[axis])
    if node.attributes.get_int("keepdims", 1) or not axes:
        return y
    return op.Squeeze(y, axes)


def _product(op: Builder, x: ir.Value, axis: int, size: int) -> ir.Value:
    """Return the product along ``axis``, which has ``size`` elements and keeps one."""
    while size > 1:
        half = size // 2
        y = op.Mul(op.Slice(x, [0], [half], [axis]), op.Slice(x, [half], [2 * half], [axis]))
        if size % 2:
            y = op.Concat(y, op.Slice(x, [2 * half], [size], [axis]), axis=axis)
        x, size = y, half + size % 2
    return x
