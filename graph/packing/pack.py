"""Packing a model: each weight with enough zeros becomes a small decoding subgraph, in place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.names import value_names
from onnx_unipts.graph.packing.decoder import Step
from onnx_unipts.graph.packing.encoding import ENCODINGS, Parts, is_stored
from onnx_unipts.graph.packing.storage import is_typed, make_tensor
from onnx_unipts.graph.packing.weight import (
    DTYPES,
    HALF,
    MOST_ELEMENTS,
    SHARED,
    ZERO,
    Form,
    encoded,
)

__all__ = ["LEAST_OPSET", "PackedWeight", "Packing", "check_packable", "choices", "pack"]

LEAST_OPSET = 11
LEAST_IR_VERSION = 4
SMALLEST = "smallest"
# A weight is packed if that saves so many bytes of the file, and one of so many of all weights:
# every node costs time when a model is loaded. On MobileNetV2 this leaves 12 of 49 weights dense,
# for a tenth less of the time and a thousandth more of the size.
LEAST_GAIN = 300
LEAST_SHARE = 5000
# Of a model with more bytes of weights than these, one way to pack is tried, the best for each.
MOST_TRIED = 1 << 28
# What the nodes and tensors of a subgraph take in the file beside their data.
NODE_BYTES = 40
TENSOR_BYTES = 30
# Below half precision no smaller: biases and the parameters of normalisations stay as they are.
LEAST_RANK_HALVED = 2


@dataclass(frozen=True)
class PackedWeight:
    """A weight that was packed: its name, how (``kind``), and its bytes before and after."""

    name: str
    kind: str
    dense_bytes: int
    packed_bytes: int


@dataclass
class Packing:
    """What `pack` did: the weights it packed, and why others with zeros stayed dense.

    ``negative_zeros`` counts those among the packed weights: they are values, as dropping their
    sign would not give the same model back.
    """

    packed: list[PackedWeight] = field(default_factory=list)
    dense: dict[str, str] = field(default_factory=dict)
    zeros: int = 0
    negative_zeros: int = 0


def choices() -> list[str]:
    """Return what ``pack`` accepts as ``how``."""
    return [*ENCODINGS, SMALLEST]


def check_packable(model: ir.Model) -> None:
    """Raise `UnsupportedModelError`, with the remedy, if ``model`` cannot hold packed weights."""
    opset = model.opset_imports.get("")
    if opset is not None and opset < LEAST_OPSET:
        raise UnsupportedModelError(
            f"opset {opset} has no operators to unpack with; convert the model to opset "
            f"{LEAST_OPSET} or newer (onnx.version_converter does), or use --format dense"
        )
    if (model.ir_version or 0) < LEAST_IR_VERSION:
        raise UnsupportedModelError(
            f"IR version {model.ir_version} has every weight as an input, which a packed one "
            f"cannot be; convert the model to IR version {LEAST_IR_VERSION} or newer, or use "
            "--format dense"
        )


def pack(model: ir.Model, how: str = "delta8", *, half: bool = False) -> Packing:
    """Pack the weights of the main graph of ``model`` that get smaller by it, in place.

    ``how`` is the name of an encoding, or ``smallest`` for the best of all per weight, or one of
    them for all where that makes a smaller file, as happens for small models; where an
    encoding does not apply to a weight, delta8 stands in. With ``half``, values of weights of two
    axes and more are stored as float16. The graph computes the same weights under the same names,
    bit for bit but for ``half``; runtimes do so once, when they load it.

    Raises `UnsupportedModelError` for an opset below 11 or an IR version below 4, `UsageError` for
    an unknown ``how``.
    """
    check_packable(model)
    if how != SMALLEST:
        ENCODINGS[how]
        return _pack(model, _alone(how), half)
    ways = [_Way(tuple(ENCODINGS), best=True), *map(_alone, ENCODINGS)]
    if _stored_bytes(model.graph) <= MOST_TRIED:
        # `_cost` leaves out what several weights share, which decides in small files.
        ways.sort(key=lambda way: _bytes_packed(model, way, half))
    return _pack(model, ways[0], half)


@dataclass(frozen=True)
class _Way:
    """How weights are packed: by the ``best`` of ``kinds`` each, or by the first that helps."""

    kinds: tuple[str, ...]
    best: bool = False


def _alone(kind: str) -> _Way:
    return _Way(tuple(dict.fromkeys([kind, "delta8"])))


def _bytes_packed(model: ir.Model, way: _Way, half: bool) -> int:
    copy = model.clone()
    _pack(copy, way, half)
    return len(ir.to_proto(copy).SerializeToString())


def _pack(model: ir.Model, way: _Way, half: bool) -> Packing:
    writer = _Writer(model)
    result = Packing()
    least = max(LEAST_GAIN, _stored_bytes(model.graph) // LEAST_SHARE)
    for value in _initializers(model.graph):
        plan = _plan(value, value.const_value, way, half, least, result)
        if plan is not None:
            writer.pack_initializer(value, *plan)
    for node in [n for n in model.graph if n.op_type == "Constant" and not n.domain]:
        attribute = node.attributes.get("value")
        if attribute is None or attribute.is_ref():
            continue
        value = node.outputs[0]
        tensor = attribute.as_tensor()
        plan = _plan(value, tensor, way, half, least, result)
        if plan is not None:
            writer.pack_constant(node, *plan)
    writer.finish()
    return result


def _initializers(graph: ir.Graph) -> list[ir.Value]:
    return [value for value in graph.initializers.values() if value.const_value is not None]


def _stored_bytes(graph: ir.Graph) -> int:
    tensors = (value.const_value for value in _initializers(graph))
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _plan(
    value: ir.Value,
    tensor: ir.TensorProtocol | None,
    way: _Way,
    half: bool,
    least: int,
    result: Packing,
) -> tuple[Form, Parts] | None:
    """Choose how to store a weight; None, with the reason in ``result``, if as it is."""
    assert tensor is not None
    name = value.name or ""
    if tensor.dtype not in DTYPES or tensor.nbytes < LEAST_GAIN:
        return None
    array = tensor.numpy()
    zeros = int((array == 0).sum())
    half = half and array.ndim >= LEAST_RANK_HALVED
    if not zeros and not half:
        return None
    result.zeros += zeros
    if value.is_graph_input():
        result.dense[name] = "it is an input of the graph as well, which callers may override"
        return None
    if array.size > MOST_ELEMENTS:
        result.dense[name] = "it has more elements than positions can count"
        return None
    best: tuple[Form, Parts] | None = None
    most = array.nbytes - least
    for kind in (*way.kinds, HALF):
        made = encoded(kind, array, half)
        if made is None or (size := _cost(*made)) > most:
            continue
        best, most = made, size - 1
        if not way.best and kind != HALF:
            break
    if best is None:
        result.dense[name] = "packing would make it hardly smaller"
        return None
    result.negative_zeros += zeros - int((~is_stored(array)).sum())
    result.packed.append(PackedWeight(name, best[0].kind, array.nbytes, _cost(*best)))
    return best


def _cost(form: Form, parts: Parts) -> int:
    """Return about how many bytes of the file a packed weight takes."""
    shared = SHARED if form.kind != ZERO else ()
    own = {name: part for name, part in parts.items() if name not in shared}
    data = sum(part.nbytes for part in own.values())
    return data + NODE_BYTES * len(form.decoder().steps) + TENSOR_BYTES * len(own)


# How the names of all that is added begin. Every name stands in the file several times.
ROOT = "pk"


class _Writer:
    """Puts decoding subgraphs into a graph; tensors and nodes that several need are there once."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._root = _free_root(model)
        self._count = 0
        self._shared: dict[str, ir.Value] = {}
        self._parts: dict[ir.Value, list[ir.Value]] = {}
        self._order: list[ir.Value] = list(self._graph.initializers.values())
        self._first = next(iter(self._graph), None)

    def pack_initializer(self, value: ir.Value, form: Form, parts: Parts) -> None:
        """Replace an initializer; its parts take its place among the others."""
        tensor = value.const_value
        assert tensor is not None
        nodes, own = self._instantiate(value, tensor, form, parts, f"/{form.kind}")
        del self._graph.initializers[value.name]  # type: ignore[arg-type]
        self._parts[value] = own
        nodes[-1].doc_string = tensor.doc_string
        nodes[-1].metadata_props.update(value.metadata_props)
        if self._first is None:
            self._graph.extend(nodes)
        else:
            self._graph.insert_before(self._first, nodes)
        _nameless(nodes)

    def pack_constant(self, node: ir.Node, form: Form, parts: Parts) -> None:
        """Replace a Constant node; the subgraph takes its place among the nodes."""
        tensor = node.attributes["value"].as_tensor()
        own_name = node.name or ""
        marker = f"/{form.kind}/constant:{len(own_name)}/{own_name}{tensor.name or ''}"
        nodes, own = self._instantiate(node.outputs[0], tensor, form, parts, marker)
        nodes[-1].doc_string = node.doc_string
        nodes[-1].metadata_props.update(node.metadata_props)
        self._order.extend(own)
        self._graph.insert_before(node, nodes)
        self._graph.remove(node, safe=True)
        _nameless(nodes)

    def finish(self) -> None:
        """Bring the initializers into their order: the shared ones stand last."""
        ordered = [part for value in self._order for part in self._parts.get(value, [value])]
        ordered += [value for value in self._shared.values() if value.const_value is not None]
        self._graph.initializers.clear()
        for value in ordered:
            self._graph.initializers.add(value)

    def _instantiate(
        self, old: ir.Value, tensor: ir.TensorProtocol, form: Form, parts: Parts, marker: str
    ) -> tuple[list[ir.Node], list[ir.Value]]:
        """Return the nodes that compute ``old``, whose uses are theirs now, and the own tensors."""
        prefix = f"{self._root}{self._count}"
        self._count += 1
        decoder = form.decoder()
        # Kept up, so that the tensor can be stored again as it was.
        typed = is_typed(tensor)
        values: dict[str, ir.Value] = {}
        own: list[ir.Value] = []
        for name, array in parts.items():
            if name in SHARED and form.kind != ZERO:
                label = "x".join(map(str, array.tolist())) or "scalar"
                values[name] = self._shared_tensor(f"{name}{label}", array)
            else:
                values[name] = _tensor(f"{prefix}{name}", array, typed and name in ("v", "s"))
                own.append(values[name])
                if old.meta.get("storage") == "external":
                    values[name].meta["storage"] = "external"
        for name, array in decoder.constants.items():
            values[name] = self._shared_tensor(name, array)
        nodes = []
        for step in decoder.steps:
            shared = self._shared_name(step, form, parts)
            if shared in self._shared:
                values[step.output] = self._shared[shared]
                continue
            output = ir.Value(name=shared or f"{prefix}.{step.output}")
            inputs = [values[name] for name in step.inputs]
            nodes.append(ir.Node("", step.operator, inputs, step.attributes, outputs=[output]))
            values[step.output] = output
            if shared:
                self._shared[shared] = output
        last = nodes[-1]
        last.name = prefix + marker
        _take_over(old, last.outputs[0])
        return nodes, own

    def _shared_name(self, step: Step, form: Form, parts: Parts) -> str:
        if not step.shared:
            return ""
        if step.shared != "zeros":
            return f"{self._root}.{step.shared}"
        return f"{self._root}.zeros{int(parts['N'][0])}.{form.dtype.name.lower()}"

    def _shared_tensor(self, name: str, array: np.ndarray) -> ir.Value:
        name = f"{self._root}.{name}"
        if name not in self._shared:
            self._shared[name] = _tensor(name, array)
        return self._shared[name]


def _tensor(name: str, array: np.ndarray, typed: bool = False) -> ir.Value:
    return ir.Value(name=name, const_value=make_tensor(array, name, typed))


def _nameless(nodes: Iterable[ir.Node]) -> None:
    """Take the names away that a graph gives its new nodes: they would only cost bytes."""
    for node in nodes:
        if "/" not in (node.name or ""):
            node.name = ""


def _take_over(old: ir.Value, new: ir.Value) -> None:
    """Give ``new`` the name and every use of ``old``."""
    # What is known of an initializer its tensor says, and the nodes say it again.
    if old.is_graph_output() or not old.is_initializer():
        new.type, new.shape = old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.name, new.doc_string = old.name, old.doc_string
    new.meta.update({k: v for k, v in old.meta.items() if k != "storage"})


def _free_root(model: ir.Model) -> str:
    """Return the beginning of names that no value of ``model`` begins with."""
    names = set(value_names(model.graph))
    root = ROOT
    while any(name.startswith(root) for name in names):
        root += "_"
    return root
