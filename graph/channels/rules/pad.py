"""Pad puts positions around an axis; on an axis of channels they are channels like others."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.bias import set_constant
from onnx_unipts.graph.channels.trace import RULES, CannotTraceError, Edit, Stays, Trace
from onnx_unipts.graph.nodes import input_at

__all__ = ["pad"]


@RULES.register("Pad")
def pad(node: ir.Node, trace: Trace) -> None:
    """Added channels are the padding value; elsewhere constants pass that equal it."""
    value = node.inputs[0]
    axes = list(trace.axes(value))
    if all(labels is None for labels in axes):
        trace.give(node.outputs[0], axes)
        return
    pads = trace.numbers(node, "pads", 1)
    if pads is None:
        raise CannotTraceError("its width is not given")
    chosen = trace.numbers(node, "axes", 3) or list(range(len(axes)))
    widths = {axis % len(axes): (pads[i], pads[i + len(chosen)]) for i, axis in enumerate(chosen)}
    filling = _filling(node, trace)
    labelled = [axis for axis, labels in enumerate(axes) if labels is not None]
    around = any(any(w) for axis, w in widths.items() if axis not in labelled)
    for axis in labelled:
        begin, end = widths.get(axis, (0, 0))
        labels = axes[axis]
        assert labels is not None
        assert value is not None
        values, known = trace.known_along(value, axis)
        if around and filling is not None:
            known = known & (values == filling)
        if begin or end:
            if filling is None or min(begin, end) < 0:
                raise CannotTraceError("it repeats or cuts channels")
            before, after = trace.labels.fresh(begin), trace.labels.fresh(end)
            axes[axis] = np.concatenate([before, labels, after])
            values = np.concatenate([np.full(begin, filling), values, np.full(end, filling)])
            sure = np.ones(begin, dtype=bool), np.ones(end, dtype=bool)
            known = np.concatenate([sure[0], known, sure[1]])
            place = [axis_ % len(axes) for axis_ in chosen].index(axis)
            trace.edit(_narrower(node, trace, place, len(chosen), before, after))
        if len(labelled) == 1:
            trace.learn_along(node.outputs[0], axis, values, known)
    trace.give(node.outputs[0], axes)


def _filling(node: ir.Node, trace: Trace) -> float | None:
    """Return the value of the new elements, None where they repeat others."""
    if node.attributes.get_string("mode", "constant") != "constant":
        return None
    value = input_at(node, 2)
    if value is None:
        return node.attributes.get_float("value", 0.0)
    return float(trace.require_constant(value, "value").reshape(-1)[0])


def _narrower(
    node: ir.Node, trace: Trace, place: int, count: int, before: np.ndarray, after: np.ndarray
) -> Edit:
    def change(stays: Stays) -> None:
        pads = trace.numbers(node, "pads", 1)
        assert pads is not None
        pads[place], pads[place + count] = int(stays(before).sum()), int(stays(after).sum())
        if "pads" in node.attributes:
            node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        else:
            set_constant(trace, node, 1, np.array(pads, dtype=np.int64))

    return change
