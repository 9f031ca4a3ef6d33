"""What a layer that takes a mean over positions could have taken at each of them."""

from __future__ import annotations

import onnx_ir as ir

from onnx_unipts.graph.reductions import reduced_axes
from onnx_unipts.reconstruction.linear_layer import LinearLayer, only_use
from onnx_unipts.student import Student

__all__ = ["layer_at_positions"]

# Operators between the mean and the layer: a mean of values within bounds is within these as well.
BETWEEN = {"Clip", "Flatten", "Identity", "Relu", "Reshape", "Squeeze"}


def layer_at_positions(student: Student, name: str, layer: LinearLayer) -> LinearLayer | None:
    """Return ``layer``, that of the weight ``name``, applied before the mean of what it takes.

    None where it takes no mean, or not one over all axes but the first and one other.
    """
    use = only_use({value.name: value for value in student.model.graph.inputs}[name])
    assert use is not None
    value = use[0].inputs[1 - use[1]]
    while value is not None and (node := value.producer()) is not None:
        if node.op_type not in BETWEEN:
            axis = _remaining_axis(node)
            data = node.inputs[0]
            return None if axis is None else LinearLayer(str(data.name), layer.layout, axis=axis)  # type: ignore[union-attr]
        value = node.inputs[0]
    return None


def _remaining_axis(node: ir.Node) -> int | None:
    """Return the one axis beside the first, that of samples, that ``node`` takes no mean over."""
    if node.op_type == "GlobalAveragePool":
        return 1
    if node.op_type == "AveragePool":
        shape = node.outputs[0].shape
        return 1 if shape is not None and all(size == 1 for size in shape[2:]) else None
    taken = node.inputs[0] if node.op_type == "ReduceMean" else None
    if taken is None or taken.shape is None:
        return None
    rank = len(taken.shape)
    gone = reduced_axes(node, rank)
    left = [] if gone is None else [axis for axis in range(rank) if axis not in gone]
    return left[1] if len(left) == 2 and left[0] == 0 else None
