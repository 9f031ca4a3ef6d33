"""ConvTranspose has no gradient on the CPU."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["conv_transpose"]


@RULES.register("ConvTranspose")
def conv_transpose(node: ir.Node, op: Builder) -> Result:
    """Zeros between the elements, then Conv with flipped weights."""
    x, weight, bias = op.inputs(3)
    batch, channels, *sizes = op.shape(x)
    _, filters, *kernel = op.shape(weight)
    outputs = op.shape(node.outputs[0], skip=2)
    ones = [1] * len(kernel)
    strides = node.attributes.get_ints("strides", ones)
    dilations = node.attributes.get_ints("dilations", ones)
    group = node.attributes.get_int("group", 1)
    begins = _begins(node, sizes, kernel, outputs)
    starts, ends, pads = [], [], []
    for axis, size in enumerate(sizes):
        # the kernel reaches this far over both ends of the stretched input
        reach = dilations[axis] * (kernel[axis] - 1)
        before = reach - begins[axis]
        after = outputs[axis] - size * strides[axis] + begins[axis]
        starts.append(max(0, -before))
        ends.append(size * strides[axis] - max(0, -after))
        pads.append((max(0, before), max(0, after)))
    stretched = _stretch(op, x, (batch, channels, *sizes), strides)
    spatial = list(range(2, 2 + len(sizes)))
    if any(starts) or ends != [s * t for s, t in zip(sizes, strides, strict=True)]:
        stretched = op.Slice(stretched, starts, ends, spatial)
    return op.Conv(
        stretched,
        _flipped(op, weight, (channels, filters, *kernel), group),
        bias,
        dilations=dilations,
        group=group,
        pads=np.transpose(pads).reshape(-1).tolist(),
    )


def _begins(
    node: ir.Node, sizes: Sequence[int], kernel: Sequence[int], outputs: Sequence[int]
) -> list[int]:
    """Return what is cut off at the beginning of each axis, by the specification's formula."""
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    given = node.attributes.get_ints("output_shape") is not None
    if mode == "VALID":
        return [0] * len(kernel)
    if mode == "NOTSET" and not given:
        return list(node.attributes.get_ints("pads", [0] * len(kernel)))[: len(kernel)]
    ones = [1] * len(kernel)
    strides = node.attributes.get_ints("strides", ones)
    dilations = node.attributes.get_ints("dilations", ones)
    extra = node.attributes.get_ints("output_padding", [0] * len(kernel))
    begins = []
    for axis, size in enumerate(sizes):
        full = strides[axis] * (size - 1) + extra[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        total = max(0, full - outputs[axis])
        begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
    return begins


def _stretch(op: Builder, x: ir.Value, shape: Sequence[int], strides: Sequence[int]) -> ir.Value:
    """Put ``stride - 1`` zeros behind every element along every spatial axis."""
    if max(strides) == 1:
        return x
    split, pads, joined = list(shape[:2]), [0, 0], list(shape[:2])
    for size, stride in zip(shape[2:], strides, strict=True):
        split += [size, 1]
        pads += [0, stride - 1]
        joined.append(size * stride)
    return op.Reshape(op.Pad(op.Reshape(x, split), [0] * len(pads) + pads), joined)


def _flipped(op: Builder, weight: ir.Value, shape: Sequence[int], group: int) -> ir.Value:
    """Return (filters * group, channels / group, kernel) from (channels, filters, kernel)."""
    channels, filters, *kernel = shape
    taps = int(np.prod(kernel))
    flat = op.Reshape(weight, [group, channels // group, filters, taps])
    if taps > 1:
        flat = op.Gather(flat, list(range(taps))[::-1], axis=3)
    swapped = op.Transpose(flat, perm=[0, 2, 1, 3])
    return op.Reshape(swapped, [group * filters, channels // group, *kernel])
