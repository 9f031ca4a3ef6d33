"""The tensors that a model stores: listed by key, read and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.model.scopes import Scope, iterate_scopes, scoped

__all__ = [
    "INITIALIZERS_APART",
    "StoredTensor",
    "find_nonfinite",
    "read_tensors",
    "stored_tensors",
    "write_lazily",
    "write_tensors",
]

# The IR version from which on initializers need not be inputs of the graph as well.
INITIALIZERS_APART = 4


def read_tensors(model: ir.Model, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return stored tensors by name, or by ``scope:name`` within a subgraph or function.

    The arrays have the stored shape and dtype (bfloat16 as the type of ml_dtypes) and are views
    that must not be written to. Raises `KeyError` for a name that is not a stored tensor.
    """
    stored = stored_tensors(model)
    return {name: stored[name].numpy() for name in names}


def write_tensors(model: ir.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Replace stored tensors in place; each is cast to the dtype it has in the file.

    Initializers stay initializers, Constant nodes Constant nodes. Raises `KeyError` for an unknown
    name and `ValueError` for another shape than the stored one.
    """
    stored = stored_tensors(model)
    for name, array in arrays.items():
        stored[name].write(array)


def write_lazily(model: ir.Model, makers: Mapping[str, Callable[[], np.ndarray]]) -> None:
    """Replace stored tensors in place by what the ``makers`` return whenever they are read.

    So that a model over 2 GB is pruned while it is written, one tensor in memory at a time. The
    arrays have the stored shape and are cast to the stored dtype.
    """
    stored = stored_tensors(model)
    for name, make in makers.items():
        record = stored[name]
        if record.attribute:
            record.write(make())
            continue
        old = record.tensor

        def tensor(make: Callable[[], np.ndarray] = make, old: Any = old) -> ir.Tensor:
            values = np.ascontiguousarray(make().astype(old.dtype.numpy(), copy=False))
            return ir.Tensor(values, dtype=old.dtype, name=old.name)

        shape = ir.Shape(old.shape.numpy())
        record.value.const_value = ir.LazyTensor(tensor, old.dtype, shape, name=old.name)


def find_nonfinite(model: ir.Model, names: Iterable[str] | None = None) -> str | None:
    """Return the key of the first stored float tensor with a value that is not finite, or None.

    Given ``names``, only those are looked at, for NaN and infinity. Without, all are, for NaN only:
    infinity is what attention masks are made of.
    """
    stored = stored_tensors(model)
    for key in stored if names is None else names:
        tensor = stored[key].tensor
        if not tensor.dtype.is_floating_point():
            continue
        array = stored[key].numpy()
        broken = np.isnan(array) if names is None else ~np.isfinite(array)
        if broken.any():
            return key
    return None


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of the file: an initializer, or what a Constant node holds in ``attribute``."""

    scope: str
    value: ir.Value
    attribute: str = ""

    @property
    def tensor(self) -> ir.TensorProtocol:
        """The tensor as onnx-ir holds it; its shape and dtype cost nothing."""
        if not self.attribute:
            assert self.value.const_value is not None
            return self.value.const_value
        attribute = self._node.attributes[self.attribute]
        if attribute.type == ir.AttributeType.TENSOR:
            return attribute.as_tensor()
        kind = np.float32 if attribute.type in _FLOAT_ATTRIBUTES else np.int64
        return ir.tensor(np.array(attribute.value, dtype=kind), name=self.value.name)

    def numpy(self) -> np.ndarray:
        """Return the values in the stored shape and dtype."""
        return self.tensor.numpy()

    def write(self, array: np.ndarray, *, resize: bool = False) -> None:
        """Replace the values; ``array`` is cast to the stored dtype.

        It has the stored shape, or any of that rank with ``resize``.
        """
        old = self.tensor
        shape = tuple(old.shape.numpy())
        if array.shape != shape and not (resize and array.ndim == len(shape)):
            raise ValueError(f"{self.value.name}: shape {array.shape} written over {shape}")
        values = np.ascontiguousarray(array.astype(old.dtype.numpy())).reshape(array.shape)
        new = ir.Tensor(
            values,
            dtype=old.dtype,
            name=old.name,
            doc_string=old.doc_string,
            metadata_props=dict(old.metadata_props),
        )
        if not self.attribute:
            self.value.const_value = new
            return
        self._node.attributes[self.attribute] = self._attribute(new)
        if self.value.const_value is not None:
            self.value.const_value = new

    def _attribute(self, tensor: ir.Tensor) -> ir.Attr:
        name, kind = self.attribute, self._node.attributes[self.attribute].type
        if kind == ir.AttributeType.TENSOR:
            return ir.AttrTensor(name, tensor)
        values = tensor.numpy().tolist()
        return ir.Attr(name, kind, tuple(values) if isinstance(values, list) else values)

    @property
    def _node(self) -> ir.Node:
        node = self.value.producer()
        assert node is not None
        return node


_FLOAT_ATTRIBUTES = (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS)
_CONSTANT_ATTRIBUTES = ("value", "value_float", "value_floats", "value_int", "value_ints")


def stored_tensors(model: ir.Model) -> dict[str, StoredTensor]:
    """Return every initializer and Constant by its key: the name, or ``scope:name``."""
    found: dict[str, StoredTensor] = {}
    for scope, graph in iterate_scopes(model):
        for stored in _stored_in(scope, graph):
            name = stored.value.name or ""
            found.setdefault(scoped(scope, name), stored)
    return found


def _stored_in(scope: str, graph: Scope) -> Iterator[StoredTensor]:
    if isinstance(graph, ir.Graph):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield StoredTensor(scope, value)
    for node in graph:
        if node.op_type != "Constant" or node.domain:
            continue
        for attribute in _CONSTANT_ATTRIBUTES:
            if attribute in node.attributes and not node.attributes[attribute].is_ref():
                yield StoredTensor(scope, node.outputs[0], attribute)
