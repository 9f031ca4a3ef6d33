"""Unpacking a model: decoding subgraphs are recognised, checked, and become plain tensors again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.packing.decoder import Decoder, same_attributes
from onnx_unipts.graph.packing.encoding import ENCODINGS, BrokenPartsError
from onnx_unipts.graph.packing.storage import is_typed, make_tensor
from onnx_unipts.graph.packing.weight import HALF, SHARED, ZERO, Form, forms

__all__ = ["unpack"]

# The name of the node that makes a packed weight. What follows is there if it was a Constant node:
# the name that this had, with its length in front, and the name of its tensor.
MARKER = re.compile(r"pk_*\d+/(\w+)(?:/constant:(\d+)/(.*))?", re.S)


@dataclass(frozen=True)
class _Match:
    form: Form
    last: ir.Node
    nodes: tuple[ir.Node, ...]
    values: Mapping[str, ir.Value]

    @property
    def own(self) -> list[ir.Value]:
        """The stored tensors that only this weight has; they stand where it stood."""
        names = self.form.decoder().parts
        shared = SHARED if self.form.kind != ZERO else ()
        return [self.values[name] for name in names if name not in shared]

    def parts(self) -> dict[str, np.ndarray]:
        names = self.form.decoder().parts
        return {name: _array(self.values[name]) for name in names}


def unpack(model: ir.Model) -> list[str]:
    """Turn every packed weight of ``model`` back into the tensor that it was, in place.

    A decoding subgraph is recognised by its operators and constants, whatever its nodes and values
    are called; it is then checked that its indices and counts fit. Returns the weights' names.

    Raises `UnsupportedModelError` that names the weight and what is wrong with it where a subgraph
    is broken.
    """
    matches = [match for node in model.graph if (match := _match(node)) is not None]
    if not matches:
        return []
    arrays = {match.last: _decode(match) for match in matches}
    _Restorer(model.graph).restore(matches, arrays)
    return [match.last.outputs[0].name or "" for match in matches]


def _match(node: ir.Node) -> _Match | None:
    if node.domain:
        return None
    marker = MARKER.fullmatch(node.name or "")
    kind = marker.group(1) if marker and marker.group(1) in (ZERO, HALF, *ENCODINGS) else None
    if kind is None and not _may_decode(node):
        return None
    for form in forms(kind):
        matcher = _Matcher(form.decoder())
        if not matcher.node(len(matcher.decoder.steps) - 1, node):
            continue
        values = matcher.values.get("v")
        if values is None or values.const_value.dtype == form.stored:  # type: ignore[union-attr]
            return _Match(form, node, tuple(matcher.nodes.values()), matcher.values)
    if kind is None:
        return None
    raise UnsupportedModelError(
        f"weight {node.outputs[0].name!r}: named as packed ({kind}), but the nodes and tensors "
        "that would unpack it are not there; the file is damaged"
    )


def _may_decode(node: ir.Node) -> bool:
    """Tell at a glance whether a node may be the end of a decoding subgraph; nearly none is."""
    source = node.inputs[0] if node.op_type == "Reshape" else None
    producer = source.producer() if source is not None else None
    return producer is not None and producer.op_type in ("ScatterElements", "Gather")


class _Matcher:
    """Walks from the last node to the stored parts, comparing with a decoder's description."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.nodes: dict[str, ir.Node] = {}
        self.values: dict[str, ir.Value] = {}

    def node(self, index: int, node: ir.Node | None) -> bool:
        step = self.decoder.steps[index]
        if node is None or (node.op_type, len(node.outputs)) != (step.operator, 1):
            return False
        if node.domain or len(node.inputs) != len(step.inputs):
            return False
        if not same_attributes(step.attributes, node.attributes):
            return False
        self.nodes[step.output] = node
        return all(map(self._value, step.inputs, node.inputs))

    def _value(self, name: str, value: ir.Value | None) -> bool:
        if value is None:
            return False
        if name in self.values:
            return self.values[name] is value
        self.values[name] = value
        if name in self.decoder.parts:
            return value.is_initializer() and value.const_value is not None
        if name in self.decoder.constants:
            return _equals(value, self.decoder.constants[name])
        return self.node(int(name), value.producer())


def _equals(value: ir.Value, constant: np.ndarray) -> bool:
    if not value.is_initializer() or value.const_value is None:
        return False
    tensor = value.const_value
    if tensor.dtype != ir.DataType.from_numpy(constant.dtype):
        return False
    return tuple(tensor.shape.numpy()) == constant.shape and tensor.tobytes() == constant.tobytes()


def _array(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()


def _decode(match: _Match) -> np.ndarray:
    try:
        return match.form.decode(match.parts())
    except BrokenPartsError as error:
        raise UnsupportedModelError(
            f"weight {match.last.outputs[0].name!r}: packed ({match.form.kind}), but {error}; the "
            "file is damaged"
        ) from error


class _Restorer:
    """Puts the tensors back in the places where their parts stand, and removes what is left."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph

    def restore(self, matches: list[_Match], arrays: Mapping[ir.Node, np.ndarray]) -> None:
        order = list(self._graph.initializers.values())
        instead: dict[ir.Value, ir.Value] = {}
        appended: list[ir.Value] = []
        for match in matches:
            restored = self._replace(match, arrays[match.last])
            if restored is None:
                continue
            own = match.own
            first = next((v for v in order if v in own and v not in instead), None)
            if first is None:
                appended.append(restored)
            else:
                instead[first] = restored
        self._remove_unused(matches)
        used = {value for match in matches for value in match.values.values()}
        kept = []
        for value in order:
            if value in instead:
                kept.append(instead[value])
            if value not in used or value.uses() or value.is_graph_output():
                kept.append(value)
        self._graph.initializers.clear()
        for value in (*kept, *appended):
            self._graph.initializers.add(value)

    def _replace(self, match: _Match, array: np.ndarray) -> ir.Value | None:
        """Put a Constant node in the place of the last one, or return a new initializer."""
        last, old = match.last, match.last.outputs[0]
        stored = match.values.get("v", match.values.get("s"))
        assert stored is not None
        assert stored.const_value is not None
        typed = is_typed(stored.const_value)
        marker = MARKER.fullmatch(last.name or "")
        if marker is not None and marker.group(2):
            new = ir.Value(name=old.name)
            end = int(marker.group(2))
            name, tensor_name = marker.group(3)[:end], marker.group(3)[end:] or None
            tensor = make_tensor(array, tensor_name, typed)
            new.type, new.shape = old.type, old.shape
            attribute = {"value": ir.AttrTensor("value", tensor)}
            node = ir.Node("", "Constant", [], attribute, outputs=[new], name=name)
            node.doc_string = last.doc_string
            node.metadata_props.update(last.metadata_props)
            self._graph.insert_after(last, node)
        else:
            tensor = make_tensor(array, old.name, typed, last.doc_string)
            new = ir.Value(name=old.name, const_value=tensor)
            new.metadata_props.update(last.metadata_props)
            if stored.meta.get("storage") == "external":
                new.meta["storage"] = "external"
            new.type, new.shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
        new.doc_string = old.doc_string
        new.meta.update(old.meta)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        return None if new.producer() is not None else new

    def _remove_unused(self, matches: list[_Match]) -> None:
        """Remove the nodes of the subgraphs, from the last backwards; shared ones with the last."""
        pending = {node: None for match in matches for node in match.nodes}
        for node in reversed([node for node in self._graph if node in pending]):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                self._graph.remove(node, safe=True)
