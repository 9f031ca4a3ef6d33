"""What is compared between dense and sparse model: one target per float output."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.errors import UnsupportedModelError

__all__ = [
    "Target",
    "choose_features",
    "choose_targets",
    "divergence",
    "expose",
    "log_softmax",
    "softmax",
]

Kind = Literal["classes", "probability", "values"]

# Operators that pass class scores on without changing any of them.
RESHAPING = {"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast"}
# Inner activations that the student learns from, where it learns from any.
FEATURES = 6

FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16}


@dataclass(frozen=True)
class Target:
    """A value of the graph whose divergence from the dense model is measured and trained.

    ``output`` is the user's output, ``value`` the distilled value, which stands before a closing
    Softmax or Sigmoid. ``kind`` says how it is compared: ``classes`` are scores over ``axis``
    (KL of their softmax), ``probability`` scores of independent events (KL of their sigmoid),
    ``values`` anything else (mean squared error over the dense output's variance). ``weight`` is
    its share in the training loss.
    """

    output: str
    value: str
    kind: Kind
    axis: int = -1
    weight: float = 1.0


def choose_targets(model: ir.Model) -> list[Target]:
    """Return one target per float output of ``model``, chosen from its shape and its producer.

    Raises `UnsupportedModelError` if no output is float.
    """
    targets = [
        _target(output)
        for output in model.graph.outputs
        if output.dtype is None or output.dtype in FLOATS
    ]
    if not targets:
        names = ", ".join(str(output.name) for output in model.graph.outputs)
        raise UnsupportedModelError(f"no output is a float tensor that can be compared: {names}")
    return targets


def choose_features(model: ir.Model, weights: Collection[str], weight: float) -> list[Target]:
    """Return inner activations of ``model`` to be distilled beside its outputs (FitNets).

    What enters the layers with ``weights``: at most `FEATURES` of them, spread evenly over
    the depth, the last one included; each counts ``weight`` / their number (Romero et al.,
    arXiv 1412.6550; here dense and sparse model have equal shapes, so that nothing is projected).
    """
    entering = dict.fromkeys(
        node.inputs[0].name
        for node in model.graph
        if any(v is not None and v.name in weights for v in node.inputs[1:2])
        and node.inputs[0] is not None
        and node.inputs[0].producer() is not None
    )
    names = [str(name) for name in entering]
    count = min(FEATURES, len(names))
    picked = [names[len(names) - 1 - (len(names) * k) // count] for k in range(count)]
    return [Target("", name, "values", weight=weight / count) for name in reversed(picked)]


def expose(model: ir.Model, targets: Sequence[Target]) -> None:
    """Make the distilled values the outputs of ``model``, in the order of ``targets``; in place."""
    values = {value.name: value for node in model.graph for value in node.outputs}
    values |= {value.name: value for value in model.graph.inputs}
    model.graph.outputs.clear()
    model.graph.outputs.extend(dict.fromkeys(values[target.value] for target in targets))


def divergence(target: Target, dense: np.ndarray, sparse: np.ndarray) -> float:
    """Return the mean divergence of ``sparse`` from ``dense``, both of the target's shape.

    For classes and probabilities the Kullback-Leibler divergence in nats, for values the mean
    squared error divided by the variance of ``dense``. Not finite outputs count as infinitely far.
    """
    dense, sparse = dense.astype(np.float64), sparse.astype(np.float64)
    if not np.isfinite(sparse).all():
        return float("inf")
    if target.kind == "classes":
        log_dense = log_softmax(dense, target.axis)
        log_sparse = log_softmax(sparse, target.axis)
        return float((np.exp(log_dense) * (log_dense - log_sparse)).sum(axis=target.axis).mean())
    if target.kind == "probability":
        probability = np.exp(_log_sigmoid(dense))
        yes = probability * (_log_sigmoid(dense) - _log_sigmoid(sparse))
        no = (1 - probability) * (_log_sigmoid(-dense) - _log_sigmoid(-sparse))
        return float((yes + no).mean())
    return float(np.square(dense - sparse).mean() / max(float(dense.var()), 1e-12))


def total_divergence(
    targets: Sequence[Target], dense: Mapping[str, np.ndarray], sparse: Mapping[str, np.ndarray]
) -> float:
    """Return the sum of the targets' divergences; the arrays are given by value name."""
    return sum(divergence(t, dense[t.value], sparse[t.value]) for t in targets)


def log_softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the logarithm of the softmax of ``scores`` along ``axis``, same shape and dtype."""
    shifted = scores - scores.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the softmax of ``scores`` along ``axis``, same shape and dtype."""
    return np.exp(log_softmax(scores, axis))


def _log_sigmoid(scores: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0.0, -scores)


def _target(output: ir.Value) -> Target:
    name = output.name or ""
    producer = _behind_reshaping(output).producer()
    if producer is not None and producer.inputs and producer.inputs[0] is not None:
        before = producer.inputs[0].name or ""
        if producer.op_type in ("Softmax", "LogSoftmax"):
            return Target(name, before, "classes", producer.attributes.get_int("axis", -1))
        if producer.op_type == "Sigmoid":
            return Target(name, before, "probability")
    if output.shape is not None and len(output.shape) == 2 and output.shape[1] != 1:
        return Target(name, name, "classes")
    return Target(name, name, "values")


def _behind_reshaping(value: ir.Value) -> ir.Value:
    producer = value.producer()
    while producer is not None and producer.op_type in RESHAPING and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return value
