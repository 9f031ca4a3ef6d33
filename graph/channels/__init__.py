"""Channels: which positions of which tensors belong together, which are dead, and removing them."""

from onnx_unipts.graph.channels.dead import Elimination, eliminate_dead_channels
from onnx_unipts.graph.channels.removal import remove_channels
from onnx_unipts.graph.channels.trace import CannotTraceError, Trace, trace_channels

__all__ = [
    "CannotTraceError",
    "Elimination",
    "Trace",
    "eliminate_dead_channels",
    "remove_channels",
    "trace_channels",
]
