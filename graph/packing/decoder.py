"""The description of a decoding subgraph: the nodes that compute a weight from its stored parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

__all__ = ["Decoder", "Step", "same_attributes"]


@dataclass(frozen=True)
class Step:
    """One node: operator, inputs (names of parts, constants or other steps), output, attributes.

    The output of a step with a ``shared`` name is the same for every weight that has such a step.
    """

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, ir.Attr]
    shared: str = ""


@dataclass
class Decoder:
    """The nodes of one decoding subgraph in order.

    ``parts`` are the initializers that differ from weight to weight, ``constants`` those with a
    fixed value. The names are local; who instantiates the description makes them unique.
    """

    steps: list[Step] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def part(self, name: str) -> str:
        """Declare a part and return its name."""
        if name not in self.parts:
            self.parts.append(name)
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """Declare a constant that all weights share and return its name."""
        self.constants[name] = value
        return name

    def add(self, operator: str, *inputs: str, shared: str = "", **attributes: object) -> str:
        """Add a node and return the name of its output."""
        output = f"{len(self.steps)}"
        self.steps.append(Step(operator, inputs, output, _attributes(attributes), shared))
        return output

    def step(self, output: str) -> Step | None:
        """Return the step that makes ``output``, None for a part or a constant."""
        return next((step for step in self.steps if step.output == output), None)


def _attributes(values: Mapping[str, object]) -> dict[str, ir.Attr]:
    made = {}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            made[name] = ir.AttrTensor(name, ir.tensor(value))
        else:
            assert isinstance(value, int)
            made[name] = ir.AttrInt64(name, int(value))
    return made


def same_attributes(ours: Mapping[str, ir.Attr], theirs: Mapping[str, ir.Attr]) -> bool:
    """Tell whether two nodes have the same attributes, tensors compared by type and bits."""
    if ours.keys() != theirs.keys():
        return False
    return all(_same(ours[name], theirs[name]) for name in ours)


def _same(ours: ir.Attr, theirs: ir.Attr) -> bool:
    if ours.type != theirs.type or theirs.is_ref():
        return False
    if ours.type != ir.AttributeType.TENSOR:
        return bool(ours.value == theirs.value)
    a, b = ours.as_tensor(), theirs.as_tensor()
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
