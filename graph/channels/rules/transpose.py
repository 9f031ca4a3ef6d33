"""Transpose permutes axes with their labels."""

from __future__ import annotations

import onnx_ir as ir

from onnx_unipts.graph.channels.trace import RULES, Trace

__all__ = ["transpose"]


@RULES.register("Transpose")
def transpose(node: ir.Node, trace: Trace) -> None:
    """The axes of the output, in the order of ``perm``."""
    value = node.inputs[0]
    axes = trace.axes(value)
    order = node.attributes.get_ints("perm", range(len(axes))[::-1])
    trace.give(node.outputs[0], [axes[axis] for axis in order])
    known = trace.known(value) if value is not None else None
    if known is not None and trace.constant(node.outputs[0]) is None:
        trace.learn(node.outputs[0], known.values.transpose(order), known.mask.transpose(order))
