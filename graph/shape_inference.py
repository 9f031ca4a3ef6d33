"""Shapes and types of values, as far as they can be inferred."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from onnx_unipts.graph.model import from_proto, to_proto

__all__ = ["with_inferred_shapes"]


def with_inferred_shapes(model: ir.Model) -> ir.Model:
    """Return a copy of ``model`` with inferred types and shapes; names and order stay."""
    if any("type_proto" in output.meta for output in model.graph.outputs):
        # Maps, which onnx-ir knows no type for.
        return from_proto(onnx.shape_inference.infer_shapes(to_proto(model)))
    copy = model.clone()
    common.ShapeInferencePass(strict_mode=False)(copy)
    return copy
