"""ConvTranspose has no gradient on the CPU."""

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["conv_transpose"]


@RULES.register("ConvTranspose")
def conv_transpose(node: ir.Node, op: Builder) -> Result:
    """Conv to stride x stride outputs per position, which are then laid side by side."""
    x, weight, bias = op.inputs(3)
    batch, _, *sizes = op.shape(x)
    filters, *kernel = op.shape(weight, skip=1)
    outputs = op.shape(node.outputs[0], skip=2)
    group = node.attributes.get_int("group", 1)
    ones = [1] * len(kernel)
    strides = node.attributes.get_ints("strides", ones)
    begins = _begins(node, sizes, kernel, outputs)
    weight = _stretch(op, weight, node.attributes.get_ints("dilations", ones))
    # tap t = q * stride + r of the kernel takes element i to position (i + q) * stride + r
    reach = [
        -(-taps // stride) for taps, stride in zip(op.shape(weight, skip=2), strides, strict=True)
    ]
    y = op.Conv(
        x,
        _by_phase(op, weight, reach, strides, group),
        group=group,
        pads=[taps - 1 for taps in reach] * 2,
    )
    blocks = [size + taps - 1 for size, taps in zip(sizes, reach, strict=True)]
    y = _interleave(op, y, batch, filters * group, blocks, strides)
    ends = [
        begin + size - block * stride
        for begin, size, block, stride in zip(begins, outputs, blocks, strides, strict=True)
    ]
    if any(begins) or any(ends):
        y = op.Pad(y, [0, 0, *(-begin for begin in begins), 0, 0, *ends])
    return y if bias is None else op.Add(y, op.Reshape(bias, [-1, *ones]))


def _begins(
    node: ir.Node, sizes: Sequence[int], kernel: Sequence[int], outputs: Sequence[int]
) -> list[int]:
    """Return what is cut off at the beginning of each axis, by the specification's formula."""
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * len(kernel)
    if mode == "NOTSET" and node.attributes.get_ints("output_shape") is None:
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


def _stretch(op: Builder, weight: ir.Value, dilations: Sequence[int]) -> ir.Value:
    """Put ``dilation - 1`` zeros between the taps of a kernel."""
    if max(dilations) == 1:
        return weight
    channels, filters, *kernel = op.shape(weight)
    split, pads, joined, ends = [channels, filters], [0, 0], [channels, filters], [0, 0]
    for taps, dilation in zip(kernel, dilations, strict=True):
        split += [taps, 1]
        pads += [0, dilation - 1]
        joined.append(taps * dilation)
        ends.append(1 - dilation)
    zeros = op.Pad(op.Reshape(weight, split), [0] * len(pads) + pads)
    return op.Pad(op.Reshape(zeros, joined), [0] * len(ends) + ends)


def _by_phase(
    op: Builder, weight: ir.Value, reach: Sequence[int], strides: Sequence[int], group: int
) -> ir.Value:
    """Return the kernel (channels, filters, taps) as (filters * strides, channels, reach), flipped.

    The channels of the result are those of one group, its filters those of all groups.
    """
    channels, filters, *kernel = op.shape(weight)
    rank = len(kernel)
    ends = [q * r - taps for q, r, taps in zip(reach, strides, kernel, strict=True)]
    if any(ends):
        weight = op.Pad(weight, [0] * (2 + rank) + [0, 0, *ends])
    split = [group, channels // group, filters]
    for q, r in zip(reach, strides, strict=True):
        split += [q, r]
    qs, rs = [3 + 2 * k for k in range(rank)], [4 + 2 * k for k in range(rank)]
    phases = op.Transpose(op.Reshape(weight, split), perm=[0, 2, *rs, 1, *qs])
    taps = prod(reach)
    shape = [filters * group * prod(strides), channels // group]
    flat = op.Reshape(phases, [*shape, taps])
    if taps > 1:  # reversed as a whole, the taps are reversed along every axis
        flat = op.Gather(flat, list(range(taps))[::-1], axis=2)
    return op.Reshape(flat, [*shape, *reach])


def _interleave(
    op: Builder,
    y: ir.Value,
    batch: int,
    filters: int,
    blocks: Sequence[int],
    strides: Sequence[int],
) -> ir.Value:
    """Return (batch, filters, blocks * strides) from (batch, filters * strides, blocks)."""
    if max(strides) == 1:
        return y
    rank = len(blocks)
    split = op.Reshape(y, [batch, filters, *strides, *blocks])
    pairs = [axis for k in range(rank) for axis in (2 + rank + k, 2 + k)]
    sizes = [block * stride for block, stride in zip(blocks, strides, strict=True)]
    return op.Reshape(op.Transpose(split, perm=[0, 1, *pairs]), [batch, filters, *sizes])
