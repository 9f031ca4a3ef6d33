"""What comes right behind a layer: a normalisation, then perhaps a sum, then perhaps bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnx_unipts.graph.nodes import input_at
from onnx_unipts.graph.normalization import Normalization
from onnx_unipts.reconstruction.linear_layer import LinearLayer, only_use
from onnx_unipts.student import Student

__all__ = ["Downstream", "find_downstream"]


@dataclass(frozen=True)
class Downstream:
    """What comes right behind a layer.

    Attributes:
        normalization: of what the layer gives; nothing else uses its bias.
        added: the name of the value that the normalised one is added to; empty where none is.
        lowest, highest: what is below or above, of the sum where there is one, counts as this much:
            bounds of Relu or Clip, infinite where there are none.
    """

    normalization: Normalization
    added: str = ""
    lowest: float = -math.inf
    highest: float = math.inf

    @property
    def bounded(self) -> bool:
        """Whether anything counts as a bound."""
        return math.isfinite(self.lowest) or math.isfinite(self.highest)


def find_downstream(student: Student, layers: Mapping[str, LinearLayer]) -> dict[str, Downstream]:
    """Return what comes behind those convolutions among ``layers`` that are normalised.

    Left out are those whose normalisation shares its bias with another node, as exporters do with
    equal ones, or does not train it.
    """
    normalizations = {norm.output: norm for norm in student.normalizations}
    inputs = {value.name: value for value in student.model.graph.inputs}
    found = {}
    for name, layer in layers.items():
        use = only_use(inputs[name])
        after = None if use is None else _only_reader(use[0].outputs[0])
        norm = None if after is None else normalizations.get(str(after.outputs[0].name))
        if not layer.kernel or after is None or norm is None:
            continue
        if norm.bias in student.trained and len(list(inputs[norm.bias].uses())) == 1:
            found[name] = _behind(after.outputs[0], norm)
    return found


def _behind(value: ir.Value, norm: Normalization) -> Downstream:
    reader = _only_reader(value)
    added = "" if reader is None else _added(reader, value, norm.channels)
    if reader is not None and added:
        reader = _only_reader(reader.outputs[0])
    lowest, highest = (-math.inf, math.inf) if reader is None else _bounds(reader)
    return Downstream(norm, added, lowest, highest)


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0][0].domain:
        return None
    return uses[0][0]


def _added(node: ir.Node, value: ir.Value, channels: int) -> str:
    """Return what ``node`` adds to ``value``, of as many ``channels``; else nothing.

    Whether it has as many positions, only a run tells.
    """
    other = next((v for v in node.inputs if v is not None and v is not value), None)
    if node.op_type != "Add" or other is None or other.shape is None or len(other.shape) < 2:
        return ""
    return str(other.name) if other.shape[1] == channels else ""


def _bounds(node: ir.Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return -math.inf, math.inf
    return _bound(node, "min", 1, -math.inf), _bound(node, "max", 2, math.inf)


def _bound(node: ir.Node, attribute: str, index: int, without: float) -> float:
    """Return a bound of Clip, an attribute or an input by opset; none where it is computed."""
    value = input_at(node, index)
    if value is None:
        return node.attributes.get_float(attribute, without)
    constant = ir.convenience.get_const_tensor(value)
    return without if constant is None else float(constant.numpy().item())
