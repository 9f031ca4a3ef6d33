"""Whole blocks of channels: what runtimes compute convolutions in, so that fewer are faster."""

from __future__ import annotations

import numpy as np

from onnx_unipts.graph.channels.trace import Trace

__all__ = ["BLOCK", "in_whole_blocks"]

# onnxruntime's blocked convolutions (MLAS, NCHWc) take 16 channels at a time with AVX-512, 8
# without; a grouped one has to have whole blocks, another one a multiple of 4. With other numbers
# the layout is changed before and after. Measured: 13 of 16 channels took 1.2 times as long as 16,
# 12 as long as 16, 24 of 32 as long as 32; and MobileNetV2 without all of its dead channels took
# 2.7 times as long as with a few of them left for whole blocks.
BLOCK = 16
ALIGNMENT = 4


def in_whole_blocks(trace: Trace, gone: np.ndarray) -> np.ndarray:
    """Return those of the channels ``gone``, int64, that leave convolutions whole blocks.

    Where the others leave an odd number of at least `BLOCK` channels, some stay to make it even;
    convolutions with fewer are not computed in blocks.
    """
    channel, _ = trace.channels
    leaves = np.zeros(len(channel), dtype=bool)
    leaves[gone] = True
    axes = _convolved(trace, channel)
    changed = True
    while changed:
        changed = False
        for channels, multiple in axes:
            leaving = channels[leaves[channels]]
            left = len(channels) - len(leaving)
            missing = min(-left % multiple, len(leaving))
            leaves[leaving[:missing]] = False
            changed = changed or missing > 0
    return np.flatnonzero(leaves)


def _convolved(trace: Trace, channel: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Return the channels that each convolution makes, and what their number has to divide by."""
    found = []
    for node in trace.model.graph:
        axes = trace.labelled.get(node.outputs[0])
        if node.op_type != "Conv" or node.domain or axes is None or axes[1] is None:
            continue
        if len(axes[1]) >= BLOCK:
            grouped = node.attributes.get_int("group", 1) > 1
            found.append((channel[axes[1]], BLOCK if grouped else ALIGNMENT))
    return found
