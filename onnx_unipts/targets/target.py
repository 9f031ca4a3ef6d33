"""A target: a value of the graph that is compared between dense and sparse model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from onnx_unipts.targets.scores import probability

__all__ = ["Kind", "Target", "expose", "with_measured"]

Kind = Literal["classes", "probability", "values"]


@dataclass(frozen=True)
class Target:
    """A value of the graph whose divergence from the dense model is measured and trained.

    ``output`` is the user's output, ``value`` the distilled value, which stands before a closing
    Softmax or Sigmoid. ``kind`` says how it is compared: ``classes`` are scores over ``axis``
    (KL of their softmax), ``probability`` scores of independent events (KL of their sigmoid),
    ``values`` anything else (mean squared error over the dense output's variance). ``weight`` is
    its share in the training loss. ``closing`` is the operator that makes the output of the value,
    empty where there is none, and ``shape`` the value's without its first axis, set where it is not
    that of the output. An ``inner`` target stands for an output that cannot be compared, such as
    class indices: its value is looked at itself.
    """

    output: str
    value: str
    kind: Kind
    axis: int = -1
    weight: float = 1.0
    closing: str = ""
    shape: tuple[int, ...] | None = None
    inner: bool = False

    @property
    def in_words(self) -> str:
        """What the value holds, for the user."""
        return {"classes": "class scores", "probability": "probabilities"}.get(self.kind, "values")

    @property
    def measured(self) -> str:
        """The name of what is read from a model file to compare it: see `with_measured`."""
        return self.value if self.inner else self.output

    def scores(self, output: np.ndarray) -> np.ndarray:
        """Return what ``output`` was made of, in the value's shape; class scores up to a constant.

        The logarithm of a Softmax is such scores, and so is what a LogSoftmax returns.
        """
        if self.shape is not None:
            output = output.reshape(-1, *self.shape)
        if self.closing == "Softmax":
            return np.log(probability(output))
        if self.closing == "Sigmoid":
            yes = probability(output)
            return np.log(yes) - np.log(probability(1.0 - yes))
        return output


def with_measured(model: ir.Model, targets: Sequence[Target]) -> ir.Model:
    """Return ``model``, or a copy that also outputs the inner ``targets``."""
    names = [target.value for target in targets if target.inner]
    if not names:
        return model
    copy = model.clone()
    values = {value.name: value for node in copy.graph for value in node.outputs}
    for name in dict.fromkeys(names):
        value = values[name]
        if not value.is_graph_output():
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
            copy.graph.outputs.append(value)
    return copy


def expose(model: ir.Model, targets: Sequence[Target]) -> None:
    """Make the distilled values the outputs of ``model``, in the order of ``targets``; in place."""
    values = {value.name: value for node in model.graph for value in node.outputs}
    values |= {value.name: value for value in model.graph.inputs}
    model.graph.outputs.clear()
    model.graph.outputs.extend(dict.fromkeys(values[target.value] for target in targets))
