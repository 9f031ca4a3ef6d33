"""Counting the multiplications of one forward pass, to spend no more samples than needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir

from onnx_unipts.graph.model import from_proto, to_proto

__all__ = ["multiplications"]


def multiplications(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return the multiplications of the convolutions and matrix products in the main graph.

    ``shapes`` gives the shape of every input that has dynamic axes. An operator whose shapes cannot
    be inferred counts nothing, so that the result is a lower bound.
    """
    copy = model.clone()
    for value in copy.graph.inputs:
        if (shape := shapes.get(str(value.name))) is not None:
            value.shape = ir.Shape(shape)
    for node in copy.graph:
        for value in node.outputs:
            value.shape = None
    try:
        copy = from_proto(onnx.shape_inference.infer_shapes(to_proto(copy), data_prop=True))
    except Exception:
        return 0
    return sum(_count(node) for node in copy.graph)


def _count(node: ir.Node) -> int:
    if node.op_type in ("Conv", "ConvTranspose"):
        # Each element of the output (of a transposed one: of the input) meets a whole filter.
        elements = _size(node.outputs[0] if node.op_type == "Conv" else node.inputs[0])
        filters = _shape(node.inputs[1])
        return elements * math.prod(filters[1:]) if filters else 0
    if node.op_type in ("MatMul", "Gemm"):
        shape = _shape(node.inputs[0])
        transposed = "transA" in node.attributes and node.attributes["transA"].as_int()
        return _size(node.outputs[0]) * (shape[-2 if transposed else -1] if shape else 0)
    return 0


def _size(value: ir.Value | None) -> int:
    shape = _shape(value)
    return math.prod(shape) if shape else 0


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None or not value.shape.is_static():
        return ()
    return tuple(value.shape.numpy())
