"""GlobalMaxPool has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["global_max_pool"]


@RULES.register("GlobalMaxPool")
def global_max_pool(node: ir.Node, op: Builder) -> Result:
    """MaxPool over the whole map."""
    (x,) = op.inputs(1)
    return op.MaxPool(x, kernel_shape=op.shape(x, skip=2))
