"""Split has a gradient of the wrong shape when an output gets none."""

from itertools import accumulate

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["split"]


@RULES.register("Split")
def split(node: ir.Node, op: Builder) -> Result:
    """One Slice per used output."""
    x, _ = op.inputs(2)
    axis = node.attributes.get_int("axis", 0) % op.rank(x)
    sizes = [op.shape(output)[axis] for output in node.outputs]
    ends = list(accumulate(sizes))
    return [
        op.Slice(x, [end - size], [end], [axis]) if op.used(index) else None
        for index, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
