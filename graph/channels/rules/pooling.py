"""Pooling and resizing act on each channel by itself."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.bias import set_constant
from onnx_unipts.graph.channels.rules.conv import padded
from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Trace
from onnx_unipts.graph.nodes import input_at

__all__ = ["pool", "resize"]


@RULES.register(
    "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool"
)
def pool(node: ir.Node, trace: Trace) -> None:
    """Constants pass where neither padding nor a norm changes them."""
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        raise CannotTraceError("its indices are used")
    value = node.inputs[0]
    batch, labels, *positions = trace.axes(value)
    trace.pin([batch, *positions], "pooled along this axis")
    trace.give(node.outputs[0], (None, labels, *[None] * len(positions)))
    if labels is None or value is None:
        return
    values, known = trace.known_along(value, 1)
    if not _keeps_constants(node):
        known = known & (values == 0)
    trace.learn_along(node.outputs[0], 1, values, known)


def _keeps_constants(node: ir.Node) -> bool:
    if node.op_type in ("LpPool", "GlobalLpPool"):
        return False
    if node.op_type != "AveragePool":
        return True
    counted = node.attributes.get_int("count_include_pad", 0) and padded(node)
    return not counted and not node.attributes.get_int("ceil_mode", 0)


@RULES.register("Resize", "Upsample")
def resize(node: ir.Node, trace: Trace) -> None:
    """Axes that keep their size pass; a size given for a labelled axis is changed with it."""
    value = node.inputs[0]
    axes = trace.axes(value)
    chosen = list(node.attributes.get_ints("axes", range(len(axes))))
    scales = trace.constant(input_at(node, 1 if node.op_type == "Upsample" else 2))
    before, after = trace.dims(value), trace.dims(node.outputs[0])  # type: ignore[arg-type]
    for place, axis in enumerate(a % len(axes) for a in chosen):
        kept = scales is not None and scales.size > place and scales[place] == 1
        if axes[axis] is not None and not kept and before[axis] != after[axis]:
            raise CannotTraceError("it resizes an axis of channels")
    trace.give(node.outputs[0], axes)
    _resize_sizes(node, trace, axes, chosen)
    labelled = [axis for axis, labels in enumerate(axes) if labels is not None]
    mode = node.attributes.get_string("mode", "nearest")
    cropped = node.attributes.get_string("coordinate_transformation_mode", "") == (
        "tf_crop_and_resize"
    )
    if len(labelled) == 1 and mode in ("nearest", "linear") and not cropped:
        values, known = trace.known_along(value, labelled[0])
        trace.learn_along(node.outputs[0], labelled[0], values, known)


def _resize_sizes(
    node: ir.Node, trace: Trace, axes: tuple[np.ndarray | None, ...], chosen: list[int]
) -> None:
    value = input_at(node, 3)
    places = [
        (place, labels)
        for place, axis in enumerate(chosen)
        if (labels := axes[axis % len(axes)]) is not None
    ]
    if value is None or not places:
        return
    sizes = trace.require_constant(value, "size")

    def change(kept):  # type: ignore[no-untyped-def]
        new = sizes.copy()
        for place, labels in places:
            new[place] = kept(labels).sum()
        set_constant(trace, node, 3, new)

    trace.edit(change)
