"""Convolutions and matrix products as one matrix, and their inputs as the rows it multiplies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.padding import same_padding
from onnx_unipts.graph.parameters import PASSED
from onnx_unipts.patterns import Layout
from onnx_unipts.student import Student

__all__ = ["LinearLayer", "linear_layers", "only_use"]

# Output positions per batch whose inputs are looked at; more change nothing that can be measured.
POSITIONS = 64


@dataclass(frozen=True)
class LinearLayer:
    """One Conv, Gemm or MatMul with a weight that it alone uses.

    Attributes:
        data: the name of the value that the weight is applied to.
        layout: what the axes of the weight mean.
        groups: the groups of a convolution.
        kernel, strides, dilations, pads: of a convolution; empty for a matrix product. ``pads``
            holds the padding before all axes, then the padding after them.
        auto_pad: ``SAME_UPPER`` or ``SAME_LOWER`` where the padding follows from the data instead.
        axis: the axis of the data that a matrix product sums over.
    """

    data: str
    layout: Layout
    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"
    axis: int = -1

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        """Return ``weight`` as (groups, outputs of one, inputs of one at all positions)."""
        moved = np.moveaxis(weight, self._ends, (0, 1))
        return moved.reshape(self.groups, moved.shape[0] // self.groups, -1)

    def tensor(self, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the weight of ``shape`` that `matrix` turns into ``matrix``."""
        ends = self._ends
        rest = [size for axis, size in enumerate(shape) if axis not in ends]
        moved = matrix.reshape(shape[ends[0]], shape[ends[1]], *rest)
        return np.ascontiguousarray(np.moveaxis(moved, (0, 1), ends))

    def rows(self, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return what the matrix multiplies, float32 (groups, rows, inputs of one).

        ``data`` is the value called `data`. Of a convolution, `POSITIONS` random output positions
        are taken, the same for all samples.
        """
        if not self.kernel:
            moved = np.moveaxis(data, self.axis, -1)
            return moved.reshape(1, -1, moved.shape[-1]).astype(np.float32)
        reach = self._reach
        padded = np.pad(data, [(0, 0), (0, 0), *self._padding(data.shape[2:])])
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, reach, axis=tuple(range(2, data.ndim))
        )
        picked = _picked(self.output_sizes(data.shape[2:]), rng)
        places = tuple(p * s for p, s in zip(picked, self.strides, strict=True))
        every = [slice(None, None, dilation) for dilation in self.dilations]
        index: tuple[Any, ...] = (slice(None), slice(None), *places, *every)
        seen = windows[index]
        samples, channels, positions = seen.shape[:3]
        grouped = seen.reshape(samples, self.groups, channels // self.groups, positions, -1)
        rows = grouped.transpose(1, 0, 3, 2, 4)
        return rows.reshape(self.groups, samples * positions, -1).astype(np.float32)

    def output_rows(self, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``data``, shaped as a convolution's output, at the positions of `rows`.

        Float32 (groups, rows, outputs of one), for an ``rng`` in the same state.
        """
        index: tuple[Any, ...] = (slice(None), slice(None), *_picked(data.shape[2:], rng))
        seen = data[index]
        samples, channels, positions = seen.shape
        grouped = seen.reshape(samples, self.groups, channels // self.groups, positions)
        rows = grouped.transpose(1, 0, 3, 2)
        return rows.reshape(self.groups, samples * positions, -1).astype(np.float32)

    def output_sizes(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the length of each axis, but for samples and channels, of a convolution's output.

        ``sizes`` are those of its data.
        """
        padded = [size + sum(ends) for size, ends in zip(sizes, self._padding(sizes), strict=True)]
        every = zip(padded, self._reach, self.strides, strict=True)
        return tuple((size - reach) // stride + 1 for size, reach, stride in every)

    @property
    def _reach(self) -> list[int]:
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    def _padding(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Return the padding before and after each axis of the data."""
        count = len(sizes)
        if self.auto_pad == "NOTSET":
            return list(zip(self.pads[:count], self.pads[count:], strict=True))
        upper = self.auto_pad == "SAME_UPPER"
        return same_padding(sizes, self._reach, self.strides, upper=upper)

    @property
    def _ends(self) -> tuple[int, int]:
        assert self.layout.out_axis is not None
        assert self.layout.in_axis is not None
        return self.layout.out_axis, self.layout.in_axis


def linear_layers(student: Student) -> dict[str, LinearLayer]:
    """Return the layers of the prunable weights of ``student``, in graph order.

    Left out are transposed convolutions and other operators, weights with several uses, and those
    in subgraphs.
    """
    inputs = {value.name: value for value in student.model.graph.inputs}
    layers = {}
    for name in student.prunable:
        layout = student.masking.layouts.get(name)
        use = only_use(inputs[name])
        if layout is None or layout.in_axis is None or layout.out_axis is None or use is None:
            continue
        node, index = use
        if node.graph is not student.model.graph or node.domain:
            continue
        layer = None
        if node.op_type == "Conv" and index == 1:
            layer = _convolution(node, layout, student.tensors[name].shape)
        elif node.op_type in ("Gemm", "MatMul") and student.tensors[name].ndim == 2:
            layer = _product(node, index, layout)
        if layer is not None:
            layers[name] = layer
    order = {node: place for place, node in enumerate(student.model.graph)}
    uses = {name: only_use(inputs[name]) for name in layers}
    return dict(sorted(layers.items(), key=lambda item: order[uses[item[0]][0]]))  # type: ignore[index]


def only_use(value: ir.Value) -> tuple[ir.Node, int] | None:
    """Return node and index of the one use of ``value``, behind operators that rearrange it."""
    while True:
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output():
            return None
        node, index = uses[0]
        if node.op_type not in PASSED or index != 0:
            return node, index
        value = node.outputs[0]


def _picked(sizes: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return the indices of `POSITIONS` random positions, fewer where there are not as many."""
    return np.unravel_index(rng.permutation(math.prod(sizes))[:POSITIONS], tuple(sizes))


def _convolution(node: ir.Node, layout: Layout, shape: tuple[int, ...]) -> LinearLayer | None:
    if (layout.out_axis, layout.in_axis) != (0, 1):
        return None
    kernel = shape[2:]
    count = len(kernel)
    ones = [1] * count
    strides = node.attributes.get_ints("strides", ones)
    dilations = node.attributes.get_ints("dilations", ones)
    pads = node.attributes.get_ints("pads", [0] * 2 * count)
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    data = node.inputs[0]
    assert data is not None
    return LinearLayer(
        str(data.name),
        layout,
        node.attributes.get_int("group", 1),
        tuple(kernel),
        tuple(strides),
        tuple(dilations),
        tuple(pads if auto == "NOTSET" else [0] * 2 * count),
        auto if auto.startswith("SAME") else "NOTSET",
    )


def _product(node: ir.Node, index: int, layout: Layout) -> LinearLayer | None:
    if index > 1:
        return None
    data = node.inputs[1 - index]
    assert data is not None
    transposed = node.attributes.get_int("transB" if index == 0 else "transA", 0)
    # Weight on the right: rows of the data are summed over; on the left: columns.
    axis = -1 if (index == 1) != bool(transposed) else -2
    return LinearLayer(str(data.name), layout, axis=axis)
