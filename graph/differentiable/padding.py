"""The pads of a convolution or pooling node as numbers, whatever its auto_pad says."""

from collections.abc import Sequence

import onnx_ir as ir

__all__ = ["explicit_pads"]


def explicit_pads(node: ir.Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Return ``[begin..., end...]`` per spatial axis, as the ONNX specification of Conv defines.

    ``sizes`` and ``kernel`` are the spatial sizes of the input and the kernel. SAME pads so that
    the output has ceil(size / stride) elements; SAME_UPPER puts the odd one at the end.
    """
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return list(node.attributes.get_ints("pads") or [0] * (2 * len(kernel)))
    if mode == "VALID":
        return [0] * (2 * len(kernel))
    strides = node.attributes.get_ints("strides") or [1] * len(kernel)
    dilations = node.attributes.get_ints("dilations") or [1] * len(kernel)
    less, more = [], []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        outputs = -(-size // stride)
        total = max(0, (outputs - 1) * stride + (window - 1) * dilation + 1 - size)
        less.append(total // 2)
        more.append(total - total // 2)
    return less + more if mode == "SAME_UPPER" else more + less
