"""SpaceToDepth has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["space_to_depth"]


@RULES.register("SpaceToDepth")
def space_to_depth(node: ir.Node, op: Builder) -> Result:
    """Reshape, Transpose, Reshape."""
    (x,) = op.inputs(1)
    block = node.attributes.get_int("blocksize", 1)
    channels, height, width = op.shape(x, skip=1)
    rows, columns = height // block, width // block
    blocks = op.Reshape(x, [0, channels, rows, block, columns, block])
    blocks = op.Transpose(blocks, perm=[0, 3, 5, 1, 2, 4])
    return op.Reshape(blocks, [0, channels * block**2, rows, columns])
