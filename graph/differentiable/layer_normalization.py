"""LayerNormalization has a gradient only with three outputs, a bias, and constants of its own."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.differentiable.standardize import standardize

__all__ = ["layer_normalization"]


MERGED = 32  # onnxruntime merges equal constants of few elements; 8 are too few, 64 are not


@RULES.register("LayerNormalization")
def layer_normalization(node: ir.Node, op: Builder) -> Result:
    """LayerNormalization with a bias and all three outputs, or plain operators."""
    x, scale, bias = op.inputs(3)
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if any(_shared(op, value) for value in (scale, bias)) and not (op.used(1) or op.used(2)):
        axis = node.attributes.get_int("axis", -1) % op.rank(x)
        axes = list(range(axis, op.rank(x)))
        y = op.Mul(standardize(op, x, axes, node.attributes.get_float("epsilon", 1e-5)), scale)
        outputs = [y if bias is None else op.Add(y, bias), None, None]
    elif len(node.outputs) == 3 and bias is not None:
        return None
    else:
        bias = op.Mul(scale, 0.0) if bias is None else bias
        outputs = list(op.LayerNormalization(x, scale, bias, **attributes, _outputs=3))
    return outputs[: len(node.outputs)]


def _shared(op: Builder, value: ir.Value | None) -> bool:
    """Say whether ``value`` is a constant that other nodes read, or will read once merged.

    The builder makes a gradient for it at every node, all of one name.
    """
    if value is None or not op.is_constant(value):
        return False
    return len(value.uses()) > 1 or op.constant(value).size <= MERGED
