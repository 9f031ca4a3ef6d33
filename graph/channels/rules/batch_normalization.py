"""BatchNormalization scales and shifts each channel by itself; InstanceNormalization does, too."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Trace

__all__ = ["batch_normalization", "instance_normalization"]


@RULES.register("BatchNormalization")
def batch_normalization(node: ir.Node, trace: Trace) -> None:
    """Its four tensors have one element per channel; a scale of zero makes a constant."""
    if node.attributes.get_int("training_mode", 0) or len(node.outputs) > 1:
        raise CannotTraceError("it is in training mode")
    labels = _tie(node, trace)
    scale, bias, mean, variance = (
        trace.require_constant(value, "statistics").astype(np.float64) for value in node.inputs[1:5]
    )
    if labels is None:
        return
    value = node.inputs[0]
    assert value is not None
    values, known = trace.known_along(value, 1)
    factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    result = (np.where(known, values, mean) - mean) * factor + bias
    trace.learn_along(node.outputs[0], 1, result, known | (scale == 0))


@RULES.register("InstanceNormalization")
def instance_normalization(node: ir.Node, trace: Trace) -> None:
    """Scale and bias have one element per channel; a constant leaves as the bias."""
    labels = _tie(node, trace)
    bias = trace.require_constant(node.inputs[2], "bias").astype(np.float64)
    if labels is None:
        return
    value = node.inputs[0]
    assert value is not None
    _, known = trace.known_along(value, 1)
    trace.learn_along(node.outputs[0], 1, bias, known)


def _tie(node: ir.Node, trace: Trace) -> np.ndarray | None:
    axes = trace.axes(node.inputs[0])
    if len(axes) < 2:
        raise CannotTraceError("it has no axis of channels")
    trace.pin([axes[0], *axes[2:]], "normalised over this axis")
    for value in node.inputs[1:]:
        trace.tie(axes[1], trace.axes(value)[0], "normalises what stays")
    trace.give(node.outputs[0], (None, axes[1], *[None] * (len(axes) - 2)))
    return axes[1]
