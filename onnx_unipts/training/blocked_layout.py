"""Convolutions of a gradient graph in the runtime's blocked layout (NCHWc).

The runtime lays channels out in blocks for its fastest convolution by itself, but only where the
filters are constants. In training they are inputs, so the graph says so in the runtime's own
operators. Measured on ResNet-20, one thread, with the changes of layout: 3x3 convolutions take 0.6
to 0.7 of their time, gradients by 3x3 filters 0.7 to 0.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.model import serialize
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.training.replacement import constant, replace

__all__ = ["block_convolutions", "block_size"]

DOMAIN = "com.microsoft.nchwc"
SIZES = (16, 8)  # with AVX-512, with AVX
# Elements of an upstream gradient that stay in a core's cache, as filters of a convolution. Larger
# ones were slower than ConvGrad: 1.1 to 3 times.
CACHED = 2**18


def block_convolutions(model: ir.Model) -> None:
    """Rewrite convolutions whose filters change from run to run, in place; results stay equal.

    Left as they are: grouped convolutions, those whose channels do not fill blocks, and 1x1
    kernels, which are one matrix product in any layout.
    """
    nodes = [node for node in model.graph if node.op_type in ("Conv", "ConvGrad")]
    shapes = {node: _filters(node) for node in nodes}
    wanted = {node: shape for node, shape in shapes.items() if shape and max(shape[2:]) > 1}
    size = block_size() if wanted else None
    if size is None:
        return
    graph = model.graph
    graph.opset_imports[DOMAIN] = 1
    for node, shape in wanted.items():
        if node.op_type == "Conv" and shape[0] % size == 0 and shape[1] % size == 0:
            made = _blocked(graph, node, shape, size)
            replace(graph, node, made, {0: made[-1].outputs[0]})
        if node.op_type == "ConvGrad" and _is_small_gradient_by_filters(node, size):
            made = _blocked_gradient(graph, node, size)
            replace(graph, node, made, {1: made[-1].outputs[0]})


def _filters(node: ir.Node) -> list[int] | None:
    """Return the shape of the filters of a two-dimensional convolution that may be blocked."""
    filters = node.inputs[1 if node.op_type == "Conv" else 2]
    if filters is None or filters.is_initializer():
        return None
    if node.attributes.get_int("group", 1) != 1:
        return None
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    shape = _static(filters)
    return shape if shape is not None and len(shape) == 4 else None


def _static(value: ir.Value | None) -> list[int] | None:
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return [int(size) for size in value.shape.numpy()]


def _is_small_gradient_by_filters(node: ir.Node, size: int) -> bool:
    """Whether the filters' gradient is all that ``node`` gives, and faster in blocks.

    One block of filters alone leaves the kernel waiting, two or more do not.
    """
    if [k for k, value in enumerate(node.outputs) if value.name != ""] != [1]:
        return False
    if max(_steps(node, "strides") + _steps(node, "dilations")) > 1:
        return False
    upstream = _static(node.inputs[0])
    if upstream is None or upstream[0] % size or upstream[1] % size or upstream[1] < 2 * size:
        return False
    return prod(upstream) <= CACHED


def _blocked_gradient(graph: ir.Graph, node: ir.Node, size: int) -> list[ir.Node]:
    """dW = Conv(X, dY) with the batch as channels: X's channels are its images, dY its filters."""
    upstream, data = node.inputs[:2]
    batch, outs, *positions = _static(upstream) or []
    top, left, bottom, right = node.attributes.get_ints("pads", [0] * 4)
    pads = constant(graph, [0, 0, top, left, 0, 0, bottom, right])
    padded = ir.node("Pad", [data, pads])  # the kernel's own padding is slow
    turned = ir.node("Transpose", [padded.outputs[0]], {"perm": [1, 0, 2, 3]})
    images = ir.node("ReorderInput", [turned.outputs[0]], domain=DOMAIN)
    blocks = ir.node("ReorderInput", [upstream], domain=DOMAIN)
    parts = constant(graph, [batch // size, size, outs // size, prod(positions), size])
    split = ir.node("Reshape", [blocks.outputs[0], parts])
    order = ir.node("Transpose", [split.outputs[0]], {"perm": [2, 0, 3, 1, 4]})
    joined = ir.node("Reshape", [order.outputs[0], constant(graph, [outs, batch, *positions])])
    convolve = ir.node(
        "Conv",
        [images.outputs[0], joined.outputs[0]],
        attributes=_attributes(positions, [1, 1], [1, 1], [0] * 4),
        domain=DOMAIN,
    )
    plain = ir.node("ReorderOutput", [convolve.outputs[0]], {"channels": outs}, domain=DOMAIN)
    back = ir.node("Transpose", [plain.outputs[0]], {"perm": [1, 0, 2, 3]})
    return [padded, turned, images, blocks, split, order, joined, convolve, plain, back]


def _blocked(graph: ir.Graph, node: ir.Node, shape: Sequence[int], size: int) -> list[ir.Node]:
    """Filters (out, in, h, w) to (out / size, in / size, h, w, in in block, out in block)."""
    data, filters, *bias = node.inputs
    outs, ins, *kernel = shape
    pads = node.attributes.get_ints("pads", [0] * 4)
    parts = constant(graph, [outs // size, size, ins // size, size, *kernel])
    split = ir.node("Reshape", [filters, parts])
    order = ir.node("Transpose", [split.outputs[0]], {"perm": [0, 2, 4, 5, 3, 1]})
    joined = ir.node("Reshape", [order.outputs[0], constant(graph, shape)])
    blocks = ir.node("ReorderInput", [data], domain=DOMAIN)
    convolve = ir.node(
        "Conv",
        [blocks.outputs[0], joined.outputs[0], *bias],
        attributes=_attributes(kernel, _steps(node, "strides"), _steps(node, "dilations"), pads),
        domain=DOMAIN,
    )
    plain = ir.node("ReorderOutput", [convolve.outputs[0]], {"channels": outs}, domain=DOMAIN)
    return [split, order, joined, blocks, convolve, plain]


def _attributes(
    kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]
) -> dict[str, Sequence[int] | int]:
    """Return the attributes of a blocked convolution: it has no defaults."""
    return {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "group": 1,
    }


def _steps(node: ir.Node, name: str) -> list[int]:
    return list(node.attributes.get_ints(name, [1, 1]))


@cache
def block_size() -> int | None:
    """Return the channels per block on this processor, None where it has no blocked convolution.

    The runtime does not tell: the size is the one with which a convolution comes out right.
    """
    rng = np.random.default_rng(0)
    data = rng.standard_normal((1, 32, 3, 3), np.float32)
    filters = rng.standard_normal((32, 32, 1, 1), np.float32)
    expected = np.einsum("oi,nihw->nohw", filters[:, :, 0, 0], data)
    for size in SIZES:
        made = _try(size, {"x": data, "w": filters})
        if made is not None and np.allclose(made, expected, atol=1e-4):
            return size
    return None


def _try(size: int, feeds: dict[str, np.ndarray]) -> np.ndarray | None:
    """Convolve ``x`` by the 1x1 filters ``w`` in blocks of ``size``; None where that fails."""
    x, w = (
        ir.Value(
            name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(feeds[name].shape)
        )
        for name in ("x", "w")
    )
    graph = ir.Graph([x, w], [], nodes=[], opset_imports={"": 17, DOMAIN: 1}, name="probe")
    made = _blocked(graph, ir.node("Conv", [x, w]), feeds["w"].shape, size)
    graph.extend(made)
    made[-1].outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(made[-1].outputs[0])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            serialize(ir.Model(graph, ir_version=9)), options, providers=["CPUExecutionProvider"]
        )
        return np.asarray(session.run(None, feeds)[0])
    except Exception:  # whatever the runtime raises: it has no such kernel
        return None
