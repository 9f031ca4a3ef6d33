"""ConvTranspose sums over its input channels; its filters hold them first."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Read, Trace
from onnx_unipts.graph.nodes import input_at

__all__ = ["conv_transpose"]


@RULES.register("ConvTranspose")
def conv_transpose(node: ir.Node, trace: Trace) -> None:
    """The second axis of the filters are the output channels, the first the input channels.

    How many filters meet at a position differs, so that constants come out only where all of them
    are zero, and are absorbed nowhere.
    """
    if node.attributes.get_int("group", 1) != 1:
        raise CannotTraceError("it has groups")
    filters = trace.require_constant(node.inputs[1], "filter")
    batch, entering, *positions = trace.axes(node.inputs[0])
    reading, leaving, *kernel = trace.axes(node.inputs[1])
    trace.pin([batch, *positions, *kernel], "a convolution runs over this axis")
    trace.tie(entering, reading, "the channels that enter are not known")
    bias = input_at(node, 2)
    added, sure = np.zeros(1), np.ones(1, dtype=bool)
    if bias is not None:
        trace.tie(leaving, trace.axes(bias)[0], "a bias of a filter that stays")
        added, sure = trace.known_along(bias, 0)
    trace.give(node.outputs[0], (None, leaving, *[None] * len(positions)))
    values, known = trace.known_along(node.inputs[0], 1)
    used = np.asarray(filters.reshape(*filters.shape[:2], -1).any(axis=2))
    constant = (~used | (known & (values == 0))[:, None]).all(axis=0)
    trace.learn_along(node.outputs[0], 1, added + np.zeros(filters.shape[1]), constant & sure)
    if entering is not None:
        unread = np.asarray(~used.any(axis=1))
        trace.reads.append(Read(node, entering, unread, values, known))
