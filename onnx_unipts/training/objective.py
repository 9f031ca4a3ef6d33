"""Training objectives: how far the student is from the teacher, as nodes of the training graph.

For class scores z the loss is ``-outer * sum softmax(z_teacher / T) * log_softmax(inner * z)``: an
objective is a rule for T, inner and outer, which may change with every epoch. They are inputs of
the graph, so that one graph serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.registry import Registry
from onnx_unipts.targets import Target, softmax

__all__ = ["OBJECTIVES", "Temperatures", "append_loss", "loss_feeds"]

LOSS = "distillation/loss"


@dataclass(frozen=True)
class Temperatures:
    """The three numbers of the loss on class scores (see the module's text)."""

    teacher: float
    inner: float
    outer: float


OBJECTIVES: Registry = Registry("objective", "onnx_unipts.training.objectives")


def append_loss(model: ir.Model, targets: Sequence[Target]) -> str:
    """Append the loss over ``targets`` to ``model``, in place; return the name of the scalar.

    Inputs added per target: ``VALUE/teacher`` of the value's shape, and the scalars
    ``VALUE/inner`` and ``VALUE/outer``. The model's outputs become the loss alone.
    """
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    terms = []
    nodes: list[ir.Node] = []
    # Scores and their softmax may both be outputs: one value, distilled once.
    for target in {target.value: target for target in targets}.values():
        value = values[target.value]
        teacher = ir.val(f"{target.value}/teacher", ir.DataType.FLOAT, value.shape)
        inner, outer = (
            ir.val(f"{target.value}/{part}", ir.DataType.FLOAT, []) for part in ("inner", "outer")
        )
        graph.inputs.extend([teacher, inner, outer])
        build = _TERMS[target.kind]
        made = build(value, teacher, inner, target.axis)
        summed = ir.node("ReduceSum", [made[-1].outputs[0]], {"keepdims": 0})
        term = ir.node("Mul", [summed.outputs[0], outer])
        nodes += [*made, summed, term]
        terms.append(term.outputs[0])
    total = terms[0]
    for term_value in terms[1:]:
        nodes.append(ir.node("Add", [total, term_value]))
        total = nodes[-1].outputs[0]
    loss = ir.node("Identity", [total], outputs=[ir.val(LOSS, ir.DataType.FLOAT, [])])
    graph.extend([*nodes, loss])
    graph.outputs.clear()
    graph.outputs.append(loss.outputs[0])
    return LOSS


def loss_feeds(
    targets: Sequence[Target],
    teacher: Mapping[str, np.ndarray],
    temperatures: Temperatures,
    batch_size: int,
    variances: Mapping[str, float],
    samples: int | None = None,
) -> dict[str, np.ndarray]:
    """Return what the inputs of `append_loss` are fed for one batch.

    ``teacher`` holds the dense model's values by name; ``variances`` the variance of each target of
    kind ``values`` over a batch. ``samples`` is how many the values are of, by default the length
    of their first axis. The loss is the mean over ``batch_size`` samples: replicas pass the size of
    the whole batch.
    """
    feeds: dict[str, np.ndarray] = {}
    for target in targets:
        dense = teacher[target.value]
        count = samples or len(dense)
        inner, outer = 1.0, 1.0 / batch_size
        if target.kind == "classes":
            positions = dense.size // (count * dense.shape[target.axis])
            inner, outer = temperatures.inner, -temperatures.outer / (batch_size * positions)
            dense = softmax(dense / np.float32(temperatures.teacher), target.axis)
        elif target.kind == "probability":
            outer /= dense.size // count
            dense = 0.5 * (1.0 + np.tanh(0.5 * dense))
        else:
            outer /= dense.size // count * max(variances[target.value], 1e-12)
        feeds[f"{target.value}/teacher"] = np.asarray(dense, np.float32)
        feeds[f"{target.value}/inner"] = np.asarray(inner, np.float32)
        feeds[f"{target.value}/outer"] = np.asarray(outer * target.weight, np.float32)
    return feeds


def _cross_entropy(value: ir.Value, teacher: ir.Value, inner: ir.Value, axis: int) -> list[ir.Node]:
    scaled = ir.node("Mul", [value, inner])
    logs = ir.node("LogSoftmax", [scaled.outputs[0]], {"axis": axis})
    return [scaled, logs, ir.node("Mul", [logs.outputs[0], teacher])]


def _binary_cross_entropy(
    value: ir.Value, teacher: ir.Value, inner: ir.Value, axis: int
) -> list[ir.Node]:
    """softplus(z) - p z; the softplus as relu(z) - log sigmoid(|z|), which cannot overflow.

    With |z| as 2 relu(z) - z: its gradient at exactly zero, where pruning brings many scores, then
    makes up for that of relu(z).
    """
    scaled = ir.node("Mul", [value, inner])
    scores = scaled.outputs[0]
    positive = ir.node("Relu", [scores])
    twice = ir.node("Add", [positive.outputs[0], positive.outputs[0]])
    size = ir.node("Sub", [twice.outputs[0], scores])
    certainty = ir.node("Sigmoid", [size.outputs[0]])
    logarithm = ir.node("Log", [certainty.outputs[0]])
    softplus = ir.node("Sub", [positive.outputs[0], logarithm.outputs[0]])
    expected = ir.node("Mul", [scores, teacher])
    loss = ir.node("Sub", [softplus.outputs[0], expected.outputs[0]])
    return [scaled, positive, twice, size, certainty, logarithm, softplus, expected, loss]


def _squared_error(value: ir.Value, teacher: ir.Value, inner: ir.Value, axis: int) -> list[ir.Node]:
    difference = ir.node("Sub", [value, teacher])
    return [difference, ir.node("Mul", [difference.outputs[0], difference.outputs[0]])]


_TERMS = {
    "classes": _cross_entropy,
    "probability": _binary_cross_entropy,
    "values": _squared_error,
}
