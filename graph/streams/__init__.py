"""Linear streams: values between convolutions in which channels may be mixed and unmixed again.

The bottlenecks of MobileNetV2 are: convolutions write to them, and convolutions read them, with
nothing between that treats one channel unlike another.
"""

from onnx_unipts.graph.streams.finding import find_streams
from onnx_unipts.graph.streams.mixing import effective_filter, mixed
from onnx_unipts.graph.streams.stream import Stream, Writer

__all__ = ["Stream", "Writer", "effective_filter", "find_streams", "mixed"]
