"""What is compared between dense and sparse model: one target per output, a float value each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.shape_inference import with_inferred_shapes

__all__ = [
    "Target",
    "choose_features",
    "choose_targets",
    "divergence",
    "expose",
    "log_softmax",
    "softmax",
    "with_measured",
]

Kind = Literal["classes", "probability", "values"]

# Operators that pass class scores on without changing any of them.
RESHAPING = {"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast"}
# Operators that end a model; the value is what enters them.
CLOSING: dict[str, Kind] = {
    "Softmax": "classes",
    "LogSoftmax": "classes",
    "Sigmoid": "probability",
}
# Operators whose outputs are a choice among their inputs, which are compared instead.
DECIDING = {"TopK"}
# Operators whose outputs are integers, booleans or text where the graph does not say it.
MAKERS_OF_INTEGERS = {
    "And",
    "ArgMax",
    "ArgMin",
    "Cast",
    "Constant",
    "ConstantOfShape",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "NonMaxSuppression",
    "NonZero",
    "Not",
    "Or",
    "QuantizeLinear",
    "Shape",
    "Size",
    "TopK",
    "Xor",
}
# Operators whose outputs have as many elements as the data says; their inputs are compared instead.
SELECTING = {"Compress", "NonMaxSuppression", "NonZero", "Unique"}
# Operators whose output has the shape of their first input.
SHAPED_AS_FIRST = {"ScatterElements", "ScatterND"}
# Inner activations that the student learns from, where it learns from any, and how much more the
# last one counts than the first. Measured on ResNet-20 at 0.95: 6 of equal weight are a little
# worse, 18 no better.
FEATURES = 9
LAST_TO_FIRST = 3.0

FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16}


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
            return np.log(_probability(output))
        if self.closing == "Sigmoid":
            probability = _probability(output)
            return np.log(probability) - np.log(_probability(1.0 - probability))
        return output


def choose_targets(model: ir.Model, losses: Mapping[str, str] | None = None) -> list[Target]:
    """Return one target per float output of ``model``, chosen from its shape and its producer.

    An output that is none, or one of TopK, is distilled on the floats that it is made of: what
    enters ArgMax, TopK, NonMaxSuppression, QuantizeLinear, a comparison; and so is one that has
    another shape for every sample. Scalars are left out: they hold nothing about single samples;
    and so are stored tensors that are outputs. ``losses`` overrides the kind by the output's name:
    ``kl`` or ``mse``.

    Raises `UnsupportedModelError` if nothing is left, `UsageError` if ``losses`` names no output.
    """
    if any(_is_reshaped(output) or not _is_compared(output) for output in model.graph.outputs):
        model = with_inferred_shapes(model)
    found = _all_compared(model)
    if not found:
        names = ", ".join(str(output.name) for output in model.graph.outputs)
        raise UnsupportedModelError(f"no output is a float tensor that can be compared: {names}")
    targets = [_target(output) for output, value in found if value is output]
    known = {name for target in targets for name in (target.output, target.value)}
    for output, value in found:
        if value is not output and str(value.name) not in known:
            target = _inner(_target(value), output, value)
            if target.value not in known:
                targets.append(target)
                known |= {target.value, str(value.name)}
    return _overridden(targets, losses or {})


def _all_compared(model: ir.Model) -> list[tuple[ir.Value, ir.Value]]:
    ragged = _ragged(model.graph)
    return [
        pair
        for output in model.graph.outputs
        if output.producer() is not None
        for pair in _compared(output, ragged)
    ]


def _ragged(graph: ir.Graph) -> set[ir.Value]:
    """Return the values of ``graph`` whose shape depends on the data."""
    ragged: set[ir.Value] = set()
    for node in graph:
        read = node.inputs[:1] if node.op_type in SHAPED_AS_FIRST else node.inputs
        selects = node.op_type in SELECTING and not all(map(_is_given, node.inputs))
        if selects or not ragged.isdisjoint(read):
            ragged.update(v for v in node.outputs if v.shape is None or not v.shape.is_static())
    return ragged


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


def _compared(
    output: ir.Value, ragged: Collection[ir.Value]
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Yield ``output`` with each value to compare for it: itself, or the floats that make it."""
    if _is_compared(output) and output not in ragged:
        yield output, output
        return
    seen, pending = set(), [output]
    while pending:
        node = pending.pop().producer()
        for value in node.inputs if node is not None else ():
            if value is None or value in seen or value.producer() is None:
                continue
            seen.add(value)
            comparable = _is_comparable(value) and value not in ragged
            if _may_be_float(value) and comparable and not _is_stored(value):
                yield output, value
            else:
                pending.append(value)


def _may_be_float(value: ir.Value) -> bool:
    """Tell whether ``value`` is a float, or of unknown type and not surely another one."""
    node = value.producer()
    if value.dtype is not None or node is None:
        return value.dtype is not None
    return not node.domain and node.op_type not in MAKERS_OF_INTEGERS


def _is_compared(output: ir.Value) -> bool:
    """Tell whether ``output`` is compared itself."""
    node = output.producer()
    return _is_comparable(output) and (node is None or node.op_type not in DECIDING)


def _inner(target: Target, output: ir.Value, value: ir.Value) -> Target:
    node = output.producer()
    if node is not None and node.op_type == "ArgMax" and value in node.inputs:
        axis = node.attributes.get_int("axis", 0)
        target = replace(target, kind="classes", axis=axis)
    return replace(target, output=str(output.name), inner=True, closing="", shape=None)


def _is_stored(value: ir.Value) -> bool:
    """Tell whether nothing but constants goes into ``value``."""
    return _is_given(value, shapes=False)


def _is_given(value: ir.Value | None, *, shapes: bool = True) -> bool:
    """Tell whether nothing but constants, and ``shapes`` if so, goes into ``value``."""
    pending = [value]
    seen: set[ir.Value] = set()
    while pending:
        current = pending.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        node = current.producer()
        if node is None and current.const_value is None:
            return False
        if node is not None and not (shapes and node.op_type in ("Shape", "Size")):
            pending.extend(node.inputs)
    return True


def _overridden(targets: list[Target], losses: Mapping[str, str]) -> list[Target]:
    if unknown := set(losses) - {target.output for target in targets}:
        known = ", ".join(dict.fromkeys(target.output for target in targets))
        raise UsageError(f"--loss names {min(unknown)!r}; the outputs that are compared: {known}")
    return [
        _as_kind(target, losses[target.output]) if target.output in losses else target
        for target in targets
    ]


def _as_kind(target: Target, loss: str) -> Target:
    """Compare by mean squared error what the model puts out, or by KL the scores behind it."""
    if loss == "mse":
        value = target.value if target.inner else target.output
        return replace(target, value=value, kind="values", closing="", shape=None)
    if target.kind == "values":
        return replace(target, kind="classes")
    return target


def choose_features(model: ir.Model, weights: Collection[str], weight: float) -> list[Target]:
    """Return inner activations of ``model`` to be distilled beside its outputs (FitNets).

    What enters the layers with ``weights``: at most `FEATURES` of them, spread evenly over
    the depth, the last one included. They share ``weight``, the last getting `LAST_TO_FIRST` times
    what the first gets (Romero et al., arXiv 1412.6550; here dense and sparse model have equal
    shapes, so that nothing is projected).
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
    shares = np.linspace(1.0, LAST_TO_FIRST, count)
    return [
        Target("", name, "values", weight=float(weight * share / shares.sum()))
        for name, share in zip(reversed(picked), shares, strict=True)
    ]


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


def _probability(values: np.ndarray) -> np.ndarray:
    return np.clip(values.astype(np.float64), 1e-12, 1.0)


def _is_comparable(output: ir.Value) -> bool:
    if "type_proto" in output.meta:
        return False
    if output.type is not None and not isinstance(output.type, ir.TensorType):
        return False
    if output.shape is not None and not len(output.shape):
        return False
    return output.dtype is None or output.dtype in FLOATS


def _is_reshaped(output: ir.Value) -> bool:
    return _behind_reshaping(output) is not output


def _target(output: ir.Value) -> Target:
    return _closed_target(output) or _open_target(output)


def _closed_target(output: ir.Value) -> Target | None:
    """Return the target before the operator that closes the model, None without such."""
    closed = _behind_reshaping(output)
    node = closed.producer()
    if node is None or node.op_type not in CLOSING or node.inputs[0] is None:
        return None
    same, shape = _sample_shapes(closed, output)
    if not same and shape is None:
        return None  # how the output is made of the value is not known
    return Target(
        str(output.name),
        str(node.inputs[0].name),
        CLOSING[node.op_type],
        node.attributes.get_int("axis", _default_axis(node)),
        closing=node.op_type,
        shape=None if same else shape,
    )


def _default_axis(node: ir.Node) -> int:
    """Before opset 13, Softmax and LogSoftmax took the second axis and all behind it."""
    opset = node.graph.opset_imports.get("", 13) if node.graph is not None else 13
    return 1 if opset < 13 and node.op_type != "Sigmoid" else -1


def _open_target(output: ir.Value) -> Target:
    name = str(output.name)
    if output.shape is not None and len(output.shape) == 2 and output.shape[1] != 1:
        return Target(name, name, "classes")
    return Target(name, name, "values")


def _sample_shapes(closed: ir.Value, output: ir.Value) -> tuple[bool, tuple[int, ...] | None]:
    """Say whether a sample of ``output`` has the shape of one of ``closed``; return the latter."""
    if closed is output:
        return True, None
    if closed.shape is None:
        return False, None
    dims = list(closed.shape)[1:]
    same = output.shape is not None and dims == list(output.shape)[1:]
    static = tuple(dim for dim in dims if isinstance(dim, int))
    return same, static if len(static) == len(dims) else None


def _behind_reshaping(value: ir.Value) -> ir.Value:
    producer = value.producer()
    while producer is not None and producer.op_type in RESHAPING and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return value
