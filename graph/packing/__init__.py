"""Packing: sparse weights stored small, unpacked by standard operators when a runtime loads them.

A packed weight is the output, under its own name, of a few nodes that compute it from small tensors
(`delta8`, `bitmask`, `nibble`). Runtimes fold them while they load the model, so that it then is
the dense one. Operators of opset 11 suffice.
"""

from onnx_unipts.graph.packing.encoding import ENCODINGS
from onnx_unipts.graph.packing.pack import PackedWeight, Packing, check_packable, choices, pack
from onnx_unipts.graph.packing.unpack import unpack

__all__ = [
    "ENCODINGS",
    "PackedWeight",
    "Packing",
    "check_packable",
    "choices",
    "pack",
    "unpack",
]
