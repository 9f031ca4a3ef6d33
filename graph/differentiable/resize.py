"""Resize has no gradient on the CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.runtime import onnxruntime

__all__ = ["resize"]


LARGE = 2**24  # elements of a matrix


@RULES.register("Resize")
def resize(node: ir.Node, op: Builder) -> Result:
    """MatMul with a constant matrix along each axis."""
    x, roi, scales, sizes = op.inputs(4)
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    outside = node.attributes.get_float("extrapolation_value", 0.0)
    if mode == "tf_crop_and_resize" and outside != 0:
        return "its extrapolation_value is not zero"
    shape = list(op.shape(x))
    if node.attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "keep_aspect_ratio_policy is not stretch"
    axes = node.attributes.get_ints("axes", range(len(shape)))
    if min(axes) < 0:
        return "its axes are counted from the end, which onnxruntime gets wrong"
    by_scale = scales is not None and op.constant(scales).size > 0
    amounts = op.constant(scales if by_scale else sizes)
    corners = op.constant(roi) if roi is not None else np.empty(0)
    for index, axis in enumerate(axes):
        if shape[axis] * op.shape(node.outputs[0])[axis] > LARGE:
            return f"a matrix for axis {axis} would be too large"
        window = corners[index :: len(axes)] if corners.size else None
        matrix = _interpolation(node, op.opset, shape[axis], amounts[index], window)
        if not np.array_equal(matrix, np.eye(shape[axis])):
            x = _apply(op, x, shape, axis, matrix)
            shape[axis] = len(matrix)
    return x


def _interpolation(
    node: ir.Node, opset: int, size: int, amount: np.generic, window: np.ndarray | None
) -> np.ndarray:
    """Return the matrix (outputs, inputs) of one axis: what Resize makes of the unit vectors.

    ``amount`` is a scale (float) or a size (integer).
    """
    attributes = [
        attribute
        for name, attribute in node.attributes.items()
        if name not in ("axes", "keep_aspect_ratio_policy")
    ]
    inputs = [ir.val("x", ir.DataType.FLOAT, (size, size))]
    inputs += [_stored("roi", [0, window[0], 1, window[1]] if window is not None else [], "f4")]
    if isinstance(amount, np.floating):
        inputs += [_stored("scales", [1, amount], "f4")]
    else:
        inputs += [_stored("scales", [], "f4"), _stored("sizes", [size, amount], "i8")]
    y = ir.val("y", ir.DataType.FLOAT)
    graph = ir.Graph(
        inputs[:1],
        [y],
        nodes=[ir.Node("", "Resize", inputs, attributes, outputs=[y])],
        initializers=inputs[1:],
        opset_imports={"": opset},
        name="resize",
    )
    model = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.eye(size, dtype=np.float32)})[0].T


def _stored(name: str, values: Sequence[Any], dtype: str) -> ir.Value:
    tensor = ir.tensor(np.array(values, dtype), name=name)
    return ir.val(name, tensor.dtype, [len(values)], const_value=tensor)


def _apply(
    op: Builder, x: ir.Value, shape: Sequence[int], axis: int, matrix: np.ndarray
) -> ir.Value:
    """Multiply ``x`` with ``matrix`` along ``axis``."""
    if axis == len(shape) - 1:
        return op.MatMul(x, matrix.T)
    rows = op.Reshape(x, [*shape[:axis], shape[axis], -1])
    resized = [*shape[:axis], len(matrix), *shape[axis + 1 :]]
    return op.Reshape(op.MatMul(matrix, rows), resized)
