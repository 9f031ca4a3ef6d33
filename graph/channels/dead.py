"""Removing channels that are dead: nothing depends on them, or they are constant."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels.blocks import in_whole_blocks
from onnx_unipts.graph.channels.removal import remove_channels
from onnx_unipts.graph.channels.trace import Trace, trace_channels

__all__ = ["Elimination", "dead_channels", "eliminate_dead_channels"]

# Removing channels can make others dead; in real graphs it ends long before.
MOST_ROUNDS = 100


@dataclass
class Elimination:
    """What an elimination removed.

    Attributes:
        channels: the number of channels that could have been removed, had they been dead.
        dead: the number of those that were.
        removed: the number of those that were removed.
        shapes: by name the shapes of the stored tensors that shrank, before and after.
        live: by name how many values other than zero they lost, which nothing read any more.
    """

    channels: int = 0
    dead: int = 0
    removed: int = 0
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)


def eliminate_dead_channels(model: ir.Model) -> Elimination:
    """Remove the dead channels of the main graph of ``model``; in place.

    A channel is dead if all weights that read it are zero, or if it is constant and zero, or
    constant and its readers can take it up in their biases. Removing some can make others dead, so
    that it is repeated until none is. Some stay where a convolution would be slower without them
    (`in_whole_blocks`). The outputs stay, up to rounding; no operator is removed, and every tensor
    keeps at least one channel.
    """
    result = Elimination()
    for number in range(MOST_ROUNDS):
        trace = trace_channels(model)
        if number == 0:
            channel, pinned = trace.channels
            result.channels = len(np.unique(channel[~pinned]))
        dead = dead_channels(trace)
        gone = in_whole_blocks(trace, dead)
        result.dead = result.removed + len(dead)
        if not len(gone):
            break
        for name, (before, after) in remove_channels(trace, gone).items():
            shape = result.shapes.get(name, (before.shape,))[0]
            result.shapes[name] = (shape, after.shape)
            lost = int(np.count_nonzero(before)) - int(np.count_nonzero(after))
            result.live[name] = result.live.get(name, 0) + lost
        result.removed += len(gone)
    return result


def dead_channels(trace: Trace) -> np.ndarray:
    """Return the dead channels of a traced model, int64, at least one left on every axis."""
    channel, pinned = trace.channels
    dead = ~pinned
    for read in trace.reads:
        dead[channel[read.labels[~read.harmless]]] = False
    dead = dead[channel]
    for axes in trace.labelled.values():
        for labels in axes:
            if labels is not None and len(labels) and dead[labels].all():
                dead[channel == channel[labels[0]]] = False
    return np.unique(channel[dead])
