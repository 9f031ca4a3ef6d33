"""Linear streams: values between convolutions in which channels may be mixed and unmixed again.

The bottlenecks of MobileNetV2 are: convolutions write to them, and convolutions read them, with
nothing between that treats one channel unlike another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.model import StoredTensor, stored_tensors
from onnx_unipts.graph.nodes import bodies, input_at, integers, values_read
from onnx_unipts.graph.normalization.found import EPSILON

__all__ = ["Stream", "Writer", "find_streams", "mixed"]

# Operators that compute each channel from itself alone, and linearly: of all inputs, or the first.
ADDING = {"Add", "Sum", "Sub"}
LINEAR = {*ADDING, "AveragePool", "GlobalAveragePool", "Identity", "Resize", "Upsample"}
# Types that are not too coarse to be multiplied with a matrix once more.
FLOATS = {"FLOAT", "FLOAT16", "DOUBLE"}


@dataclass(frozen=True)
class Writer:
    """A convolution that makes values of a stream, by the keys of its tensors.

    ``filter`` is (width, ...), ``bias`` (width,) or None. ``normalization`` holds scale, bias, mean
    and variance, all (width,), of a BatchNormalization behind it, and is empty where none is.
    """

    width: int
    filter: str
    bias: str | None
    normalization: tuple[str, ...] = ()
    epsilon: float = EPSILON

    @property
    def keys(self) -> list[str]:
        """The keys of all its tensors."""
        return [self.filter, *([] if self.bias is None else [self.bias]), *self.normalization]


@dataclass(frozen=True)
class Stream:
    """Values of ``width`` channels that are in one basis, since they are added to each other.

    ``readers`` are the filters (channels, width, ...) of the convolutions that they enter.
    """

    width: int
    writers: tuple[Writer, ...]
    readers: tuple[str, ...]

    @property
    def filters(self) -> list[str]:
        """The keys of the filters around it."""
        return [*(writer.filter for writer in self.writers), *self.readers]

    @property
    def normalized(self) -> bool:
        """Whether a normalisation lies behind one of the convolutions that make it."""
        return any(writer.normalization for writer in self.writers)

    @property
    def keys(self) -> list[str]:
        """The keys of all tensors that depend on its basis."""
        return [*(key for writer in self.writers for key in writer.keys), *self.readers]


def find_streams(model: ir.Model) -> list[Stream]:
    """Return the linear streams of the main graph of ``model``, in graph order.

    Between a Conv and a Conv, neither of them grouped, lie only a BatchNormalization of the first,
    additions of such values, identities, average pools and resizing; no output of the graph and no
    subgraph sees them. Tensors are stored in floating point, each for one node alone, and no filter
    has a stream on both sides.
    """
    graph = model.graph
    own: _Own = {
        stored.value: _Tensor(key, int(stored.tensor.shape.numpy()[0]))
        for key, stored in stored_tensors(model).items()
        if _is_own(stored)
    }
    writers, readers = _writers(graph, own), _readers(graph, own)
    inside = {value for node in graph for body in bodies(node) for value in _seen_by(body)}

    def is_free(value: ir.Value) -> bool:
        if value.is_graph_output() or value in inside:
            return False
        made = value in writers or _is_linear(value.producer())
        return made and all(
            value in _mixed_by(node) or (node in readers and index == 0)
            for node, index in value.uses()
        )

    found = []
    for values in _groups(graph, writers):
        if not all(is_free(value) for value in values):
            continue
        written = tuple(writers[value] for value in values if value in writers)
        read = tuple(readers[n] for value in values for n, _ in value.uses() if n in readers)
        widths = {writer.width for writer in written}
        if read and len(widths) == 1 and not set(read) & {writer.filter for writer in written}:
            found.append(Stream(widths.pop(), written, read))
    return found


def mixed(
    stream: Stream, tensors: Mapping[str, np.ndarray], rotation: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the tensors of ``stream``, by key, in the basis that ``rotation`` leads to.

    ``rotation`` is orthogonal, float64 (width, width): what was y in the stream becomes
    ``rotation @ y``. ``tensors`` holds at least those of the stream; float64 is returned. Variances
    of normalisations are what they would be were channels not correlated, with the scales that make
    up for it.
    """
    turned: dict[str, np.ndarray] = {}
    for writer in stream.writers:
        turned |= _written(writer, tensors, rotation)
    for key in stream.readers:
        turned[key] = np.moveaxis(np.tensordot(tensors[key], rotation, (1, 1)), -1, 1)
    return turned


def _written(
    writer: Writer, tensors: Mapping[str, np.ndarray], rotation: np.ndarray
) -> dict[str, np.ndarray]:
    before = [writer.filter, *([] if writer.bias is None else [writer.bias])]
    if not writer.normalization:
        return {key: np.tensordot(rotation, tensors[key], (1, 0)) for key in before}
    scale, shift, mean, variance = writer.normalization
    factor = tensors[scale] / np.sqrt(tensors[variance] + writer.epsilon)
    to = rotation * factor  # of what the convolution gives
    spread = to**2 @ tensors[variance]
    return {
        **{key: np.tensordot(to, tensors[key], (1, 0)) for key in before},
        scale: np.sqrt(spread + writer.epsilon),
        shift: rotation @ tensors[shift],
        mean: to @ tensors[mean],
        variance: spread,
    }


class _Tensor(NamedTuple):
    """A stored tensor that one node has for itself: its key, and its first axis."""

    key: str
    length: int


_Own = Mapping[ir.Value | None, _Tensor]


def _is_own(stored: StoredTensor) -> bool:
    value, tensor = stored.value, stored.tensor
    if stored.scope or tensor.dtype.name not in FLOATS or len(tensor.shape) == 0:
        return False
    return len(value.uses()) == 1 and not value.is_graph_output() and not value.is_graph_input()


def _writers(graph: ir.Graph, own: _Own) -> dict[ir.Value, Writer]:
    """Return the convolutions whose tensors are ``own``, by the value that they make.

    That is what comes out of the normalisation behind one, if there is one.
    """
    found = {}
    for node in graph:
        norm = _normalization(node.outputs[0]) if _is_convolution(node) else None
        bias = input_at(node, 2)
        of_norm = () if norm is None else norm.inputs[1:5]
        if not _is_convolution(node) or any(v not in own for v in (node.inputs[1], *of_norm)):
            continue
        if bias is not None and bias not in own:
            continue
        tensor = own[node.inputs[1]]
        writer = Writer(tensor.length, tensor.key, None if bias is None else own[bias].key)
        if norm is not None:
            epsilon = norm.attributes.get_float("epsilon", EPSILON)
            keys = tuple(own[value].key for value in of_norm)
            writer = replace(writer, normalization=keys, epsilon=epsilon)
        found[(norm or node).outputs[0]] = writer
    return found


def _normalization(value: ir.Value) -> ir.Node | None:
    """Return the BatchNormalization that alone reads ``value``, with the statistics it stores."""
    if len(value.uses()) != 1 or value.is_graph_output():
        return None
    (node, _), *_ = value.uses()
    training = node.attributes.get("training_mode")
    if node.op_type != "BatchNormalization" or node.domain or (training and training.value):
        return None
    return None if any(output.uses() for output in node.outputs[1:]) else node


def _readers(graph: ir.Graph, own: _Own) -> dict[ir.Node, str]:
    return {
        node: own[node.inputs[1]].key
        for node in graph
        if _is_convolution(node) and node.inputs[1] in own
    }


def _is_convolution(node: ir.Node) -> bool:
    return node.op_type == "Conv" and not node.domain and integers(node, "group") in (None, [1])


def _is_linear(node: ir.Node | None) -> bool:
    return node is not None and node.op_type in LINEAR and not node.domain


def _mixed_by(node: ir.Node) -> list[ir.Value | None]:
    """Return the inputs of ``node`` that are in the basis of its output."""
    if not _is_linear(node):
        return []
    return list(node.inputs if node.op_type in ADDING else node.inputs[:1])


def _seen_by(body: ir.Graph) -> list[ir.Value | None]:
    return [*body.outputs, *(value for node in body for value in values_read(node))]


def _groups(graph: ir.Graph, writers: Collection[ir.Value]) -> list[list[ir.Value]]:
    """Return ``writers`` and what linear operators make of them, those in one basis together."""
    groups: dict[ir.Value, list[ir.Value]] = {}
    for node in graph:
        made = node.outputs[0] if node.outputs else None
        if made is None or not (made in writers or _is_linear(node)):
            continue
        given = (groups.get(value, [value]) for value in _mixed_by(node) if value is not None)
        group = list(dict.fromkeys([*chain.from_iterable(given), made]))
        groups |= dict.fromkeys(group, group)
    return list({id(group): group for group in groups.values()}.values())
