"""Finding linear streams in a graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import onnx_ir as ir

from onnx_unipts.graph.model import StoredTensor, stored_tensors
from onnx_unipts.graph.nodes import input_at, integers, values_read_inside
from onnx_unipts.graph.normalization.found import EPSILON
from onnx_unipts.graph.streams.stream import Stream, Writer

__all__ = ["find_streams"]

# Operators that compute each channel from itself alone, and linearly: of all inputs, or the first.
ADDING = {"Add", "Sum", "Sub"}
RESIZING = {"Resize", "Upsample"}
LINEAR = {*ADDING, *RESIZING, "AveragePool", "Dropout", "GlobalAveragePool", "Identity", "Neg"}
# Operators that see how large a value is, and nothing else of it.
MEASURING = {"Shape", "Size"}
# Types that are not too coarse to be multiplied with a matrix once more.
FLOATS = {"FLOAT", "FLOAT16", "DOUBLE"}


def find_streams(model: ir.Model) -> list[Stream]:
    """Return the linear streams of the main graph of ``model``, in graph order.

    Between a Conv and a Conv, neither of them grouped, lie only a BatchNormalization of the first,
    additions of such values, identities, average pools and the resizing of images; no output of the
    graph and no subgraph sees them. Tensors are stored in floating point, each for one node alone,
    and no filter has a stream on both sides.
    """
    graph = model.graph
    own = _Own(model)
    writers, readers = _writers(graph, own), _readers(graph, own)
    inside = {value for node in graph for value in values_read_inside(node)}

    def is_free(value: ir.Value) -> bool:
        if value.is_graph_output() or value in inside:
            return False
        made = value in writers or _is_linear(value.producer())
        return made and all(
            value in _mixed_by(node)
            or (node in readers and index == 0)
            or (node.op_type in MEASURING and not node.domain)
            for node, index in value.uses()
        )

    found = []
    for values in _groups(graph, writers):
        if not all(is_free(value) for value in values):
            continue
        written = tuple(writers[value] for value in values if value in writers)
        read = tuple(readers[n] for value in values for n, _ in value.uses() if n in readers)
        # Values of unlike ranks would be added up along unlike axes.
        kinds = {(own.shape(w.filter)[0], len(own.shape(w.filter))) for w in written}
        kinds |= {(own.shape(key)[1], len(own.shape(key))) for key in read}
        if read and len(kinds) == 1 and not set(read) & {writer.filter for writer in written}:
            width, _ = kinds.pop()
            found.append(Stream(width, written, read))
    return found


class _Own:
    """The stored tensors that one node has for itself, by value."""

    def __init__(self, model: ir.Model) -> None:
        self._keys: dict[ir.Value | None, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for key, stored in stored_tensors(model).items():
            if not stored.scope and _is_own(stored):
                self._keys[stored.value] = key
                self._shapes[key] = tuple(int(size) for size in stored.tensor.shape.numpy())

    def __contains__(self, value: ir.Value | None) -> bool:
        return value in self._keys

    def key(self, value: ir.Value | None) -> str:
        return self._keys[value]

    def shape(self, key: str) -> tuple[int, ...]:
        return self._shapes[key]

    def are_vectors(self, values: Sequence[ir.Value | None], length: int) -> bool:
        """Tell whether all ``values`` are tensors of shape (length,) that one node has."""
        return all(v in self and self.shape(self.key(v)) == (length,) for v in values)


def _is_own(stored: StoredTensor) -> bool:
    value, tensor = stored.value, stored.tensor
    return tensor.dtype.name in FLOATS and len(value.uses()) == 1 and not value.is_graph_output()


def _writers(graph: ir.Graph, own: _Own) -> dict[ir.Value, Writer]:
    """Return the convolutions whose tensors are ``own``, by the value that they make.

    That is what comes out of the normalisation behind one, if there is one.
    """
    found = {}
    for node in graph:
        if not _is_convolution(node) or node.inputs[1] not in own:
            continue
        key, bias = own.key(node.inputs[1]), input_at(node, 2)
        width = own.shape(key)[0]
        norm = _normalization(node.outputs[0])
        of_norm = () if norm is None else norm.inputs[1:5]
        if not own.are_vectors([*([] if bias is None else [bias]), *of_norm], width):
            continue
        writer = Writer(key, None if bias is None else own.key(bias))
        if norm is not None:
            epsilon = norm.attributes.get_float("epsilon", EPSILON)
            keys = tuple(own.key(value) for value in of_norm)
            writer = replace(writer, normalization=keys, epsilon=epsilon)
        found[(norm or node).outputs[0]] = writer
    return found


def _normalization(value: ir.Value) -> ir.Node | None:
    """Return the BatchNormalization that alone reads ``value``, by the statistics it stores.

    One of further outputs works as in training.
    """
    if len(value.uses()) != 1 or value.is_graph_output():
        return None
    (node, _), *_ = value.uses()
    training = node.attributes.get("training_mode")
    if node.op_type != "BatchNormalization" or node.domain or len(node.outputs) > 1:
        return None
    return None if training is not None and training.value else node


def _readers(graph: ir.Graph, own: _Own) -> dict[ir.Node, str]:
    return {
        node: own.key(node.inputs[1])
        for node in graph
        if _is_convolution(node) and node.inputs[1] in own
    }


def _is_convolution(node: ir.Node) -> bool:
    return node.op_type == "Conv" and not node.domain and integers(node, "group") in (None, [1])


def _is_linear(node: ir.Node | None) -> bool:
    if node is None or node.op_type not in LINEAR or node.domain:
        return False
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    return node.op_type not in RESIZING or _resizes_images(node)


def _resizes_images(node: ir.Node) -> bool:
    """Tell whether Resize or Upsample leaves the number of channels, for certain.

    And makes nothing up beyond the edge.
    """
    mode = node.attributes.get("coordinate_transformation_mode")
    if mode is not None and mode.value == "tf_crop_and_resize":
        return False
    if "axes" in node.attributes:
        return min(integers(node, "axes") or [0]) >= 2
    if (given := node.attributes.get("scales")) is not None:
        return not given.is_ref() and list(given.as_floats())[1:2] == [1.0]
    # Opset 10 and Upsample: (X, scales); later (X, roi, scales, sizes).
    scales = input_at(node, 1 if len(node.inputs) == 2 else 2)
    constant = None if scales is None else ir.convenience.get_const_tensor(scales)
    return constant is not None and constant.numpy().reshape(-1)[1:2].tolist() == [1.0]


def _mixed_by(node: ir.Node) -> list[ir.Value | None]:
    """Return the inputs of ``node`` that are in the basis of its output."""
    if not _is_linear(node):
        return []
    return list(node.inputs if node.op_type in ADDING else node.inputs[:1])


def _groups(graph: ir.Graph, writers: Collection[ir.Value]) -> list[list[ir.Value]]:
    """Return ``writers`` and what linear operators make of them, those in one basis together."""
    leads: dict[ir.Value, ir.Value] = {}  # of a value, another of its group, nearer to the first

    def first(value: ir.Value) -> ir.Value:
        while (other := leads.setdefault(value, value)) is not value:
            leads[value] = value = leads[other]
        return value

    for node in graph:
        if _is_linear(node) or any(value in writers for value in node.outputs):
            for value in _mixed_by(node):
                if value is not None:
                    leads[first(node.outputs[0])] = first(value)
            first(node.outputs[0])
    groups: dict[ir.Value, list[ir.Value]] = {}
    for value in list(leads):
        groups.setdefault(first(value), []).append(value)
    return list(groups.values())
