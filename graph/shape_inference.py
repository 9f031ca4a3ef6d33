"""Shapes and types of values, as far as they can be inferred."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from onnx_unipts.graph.model import from_proto, to_proto
from onnx_unipts.graph.nodes import input_at

__all__ = ["with_inferred_shapes"]

MAKERS_OF_SEQUENCES = {
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceMap",
    "SplitToSequence",
}


def with_inferred_shapes(model: ir.Model) -> ir.Model:
    """Return a copy of ``model`` with inferred types and shapes; names and order stay."""
    if any("type_proto" in output.meta for output in model.graph.outputs):
        # Maps, which onnx-ir knows no type for.
        return from_proto(onnx.shape_inference.infer_shapes(to_proto(model)))
    copy = model.clone()
    common.ShapeInferencePass(strict_mode=False)(copy)
    _restore_sequences(copy)
    return copy


def _restore_sequences(model: ir.Model) -> None:
    """Give sequences their type: the pass makes tensors of them."""
    for node in model.graph:
        source = input_at(node, 0)
        passed = node.op_type == "Identity" and source is not None and _is_sequence(source)
        if node.op_type not in MAKERS_OF_SEQUENCES and not passed:
            continue
        for value in node.outputs:
            if isinstance(value.type, ir.TensorType):
                value.type = ir.SequenceType(value.type)


def _is_sequence(value: ir.Value) -> bool:
    return isinstance(value.type, ir.SequenceType)
