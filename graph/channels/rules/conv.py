"""Conv sums over its input channels; the channels of a group may go together only."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.bias import add_to_bias
from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Read, Trace
from onnx_unipts.graph.nodes import input_at

__all__ = ["conv"]


@RULES.register("Conv")
def conv(node: ir.Node, trace: Trace) -> None:
    """The filters are the output channels, their second axis the input channels."""
    filters = trace.require_constant(node.inputs[1], "filter").astype(np.float64)
    groups = node.attributes.get_int("group", 1)
    batch, entering, *positions = trace.axes(node.inputs[0])
    leaving, reading, *kernel = trace.axes(node.inputs[1])
    trace.pin([batch, *positions, *kernel], "a convolution runs over this axis")
    bias = input_at(node, 2)
    if bias is not None:
        trace.tie(leaving, trace.axes(bias)[0], "a bias of a filter that stays")
    trace.give(node.outputs[0], (None, leaving, *[None] * len(positions)))
    if entering is None:
        trace.pin([reading], "the channels that enter are not known")
        entering = np.full(filters.shape[1] * groups, -1)
    elif groups == 1:
        trace.tie(entering, reading, "read by a filter")
    if groups > 1:
        _tie_groups(node, trace, groups)
    _learn(node, trace, filters, groups)
    if (entering >= 0).all() and (groups == 1 or not _whole_groups(filters, groups)):
        _read(node, trace, filters, groups, entering)


def _whole_groups(filters: np.ndarray, groups: int) -> bool:
    """Tell whether groups go as wholes: there are more of them than channels in one."""
    return groups >= filters.shape[1]


def _tie_groups(node: ir.Node, trace: Trace, groups: int) -> None:
    """Let whole groups go, or the same channels of all groups: what leaves more choice."""
    entering, leaving = trace.axes(node.inputs[0])[1], trace.axes(node.outputs[0])[1]
    reading = trace.axes(node.inputs[1])[1]
    if leaving is None or reading is None:
        raise CannotTraceError("the axes of its filter are not known")
    if len(leaving) % groups:
        raise CannotTraceError("its groups are not of one size")
    if entering is None:
        trace.pin([leaving], "in a group with channels that stay")
        return
    ins, outs = entering.reshape(groups, -1), leaving.reshape(groups, -1)
    if ins.shape[1] != len(reading):
        raise CannotTraceError("its groups are not of one size")
    if _whole_groups(np.empty((0, len(reading))), groups):
        trace.pin([reading], "groups go as wholes")
        trace.tie(ins, ins[:, :1], "")
        trace.tie(outs, ins[:, :1], "")
        trace.edit(lambda kept: _set_groups(node, int(kept(ins[:, 0]).sum())))
    else:
        trace.tie(ins, reading[None], "")
        trace.tie(outs, outs[:1], "")


def _set_groups(node: ir.Node, groups: int) -> None:
    node.attributes["group"] = ir.AttrInt64("group", groups)


def _grouped(filters: np.ndarray, groups: int) -> np.ndarray:
    """Return the filters as (groups, filters of a group, channels of a group, kernel size)."""
    return filters.reshape(groups, len(filters) // groups, filters.shape[1], -1)


def _learn(node: ir.Node, trace: Trace, filters: np.ndarray, groups: int) -> None:
    """A filter that reads only constants gives a constant, where no padding breaks in."""
    values, known = trace.known_along(node.inputs[0], 1)
    shape = (groups, 1, filters.shape[1])
    if len(values) != groups * filters.shape[1]:
        values, known = np.zeros(groups * filters.shape[1]), np.zeros(1, dtype=bool)
    known = np.broadcast_to(known, values.shape)
    usable = known & ((values == 0) | (not padded(node)))
    kernels = _grouped(filters, groups)
    constant = (~kernels.any(axis=3) | usable.reshape(shape)).all(axis=2).reshape(-1)
    sums = (kernels.sum(axis=3) * np.where(usable, values, 0).reshape(shape)).sum(axis=2)
    bias = input_at(node, 2)
    if bias is None:
        added, sure = np.zeros(1), np.ones(1, dtype=bool)
    else:
        added, sure = trace.known_along(bias, 0)
    trace.learn_along(node.outputs[0], 1, sums.reshape(-1) + added, constant & sure)


def _read(
    node: ir.Node, trace: Trace, filters: np.ndarray, groups: int, entering: np.ndarray
) -> None:
    values, known = trace.known_along(node.inputs[0], 1)
    kernels = _grouped(filters, groups)
    zero = ~kernels.any(axis=(1, 3)).reshape(-1)

    def absorb(constants: np.ndarray) -> None:
        given = constants.reshape(groups, 1, -1)
        amount = (kernels.sum(axis=3) * given).sum(axis=2).reshape(-1)
        add_to_bias(trace, node, 2, amount, trace.axes(node.outputs[0])[1])

    able = not padded(node) and _may_absorb(node, trace)
    trace.reads.append(Read(node, entering, zero, values, known, absorb if able else None))


def _may_absorb(node: ir.Node, trace: Trace) -> bool:
    bias = input_at(node, 2)
    return bias is None or trace.constant(bias) is not None


def padded(node: ir.Node) -> bool:
    """Tell whether zeros are put around what enters a convolution."""
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        return any(node.attributes.get_ints("pads", ()))
    return automatic != "VALID"
