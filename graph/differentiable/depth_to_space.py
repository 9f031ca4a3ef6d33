"""DepthToSpace has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["depth_to_space"]


@RULES.register("DepthToSpace")
def depth_to_space(node: ir.Node, op: Builder) -> Result:
    """Reshape, Transpose, Reshape."""
    (x,) = op.inputs(1)
    block = node.attributes.get_int("blocksize", 1)
    channels, height, width = op.shape(x, skip=1)
    depth = channels // block**2
    if node.attributes.get_string("mode", "DCR") == "DCR":
        split, order = [0, block, block, depth, height, width], [0, 3, 4, 1, 5, 2]
    else:
        split, order = [0, depth, block, block, height, width], [0, 1, 4, 2, 5, 3]
    blocks = op.Transpose(op.Reshape(x, split), perm=order)
    return op.Reshape(blocks, [0, depth, height * block, width * block])
