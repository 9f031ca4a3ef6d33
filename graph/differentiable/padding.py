"""The pads of a convolution or pooling node as numbers, whatever its auto_pad says."""

from collections.abc import Sequence

import onnx_ir as ir

from onnx_unipts.graph.padding import same_padding

__all__ = ["explicit_pads"]


def explicit_pads(node: ir.Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Return ``[begin..., end...]`` per spatial axis, as the ONNX specification of Conv defines.

    ``sizes`` and ``kernel`` are the spatial sizes of the input and the kernel.
    """
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return list(node.attributes.get_ints("pads") or [0] * (2 * len(kernel)))
    if mode == "VALID":
        return [0] * (2 * len(kernel))
    strides = node.attributes.get_ints("strides") or [1] * len(kernel)
    dilations = node.attributes.get_ints("dilations") or [1] * len(kernel)
    reach = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations, strict=True)]
    padding = same_padding(sizes, reach, strides, upper=mode == "SAME_UPPER")
    return [before for before, _ in padding] + [after for _, after in padding]
