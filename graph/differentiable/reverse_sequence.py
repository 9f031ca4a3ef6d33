"""ReverseSequence has no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["reverse_sequence"]


@RULES.register("ReverseSequence")
def reverse_sequence(node: ir.Node, op: Builder) -> Result:
    """Gather by constant indices, batch by batch unless all have one length."""
    x, lengths = op.inputs(2)
    time = node.attributes.get_int("time_axis", 0)
    batch = node.attributes.get_int("batch_axis", 1)
    steps = op.shape(x)[time]
    orders = [
        np.r_[np.arange(length)[::-1], np.arange(length, steps)]
        for length in op.constant(lengths).tolist()
    ]
    if len({tuple(order) for order in orders}) == 1:
        return op.Gather(x, orders[0], axis=time)
    rows = [op.Slice(x, [row], [row + 1], [batch]) for row in range(len(orders))]
    turned = [op.Gather(row, order, axis=time) for row, order in zip(rows, orders, strict=True)]
    return op.Concat(*turned, axis=batch)
