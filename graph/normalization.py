"""BatchNormalization in a graph: find it, insert it behind convolutions, measure it, fold it back.

The graphs here are working models: their weights are graph inputs, fed at every run. Exporters fold
BatchNormalization into the convolution before it; the method needs it back, because recalibrated
statistics repair a pruned layer's outputs (UniPTS, arXiv 2405.18810, section 3.3) and because it is
what makes sparse training stable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

__all__ = [
    "FILTER_SCALES",
    "Normalization",
    "find",
    "fold",
    "identity",
    "insert",
    "rescale",
    "restate",
    "statistics_mean",
    "train",
    "with_batch_statistics",
    "with_observed_statistics",
]

EPSILON = 1e-5
# A channel of less variance than this share of epsilon has drowned in it: it puts out its bias.
DROWNED = 1e-6
WEIGHT_OPERATORS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"}


@dataclass(frozen=True)
class Normalization:
    """One BatchNormalization of a working model; its four tensors have shape (channels,), float32.

    ``weight`` and ``conv_bias`` are set where it was inserted: the names of the filter in front of
    it, which `fold` scales, and of that convolution's bias, if it has one. ``output`` is the name
    of the normalised value, ``channels`` the length of the four tensors.
    """

    output: str
    scale: str
    bias: str
    mean: str
    variance: str
    epsilon: float
    channels: int
    weight: str | None = None
    conv_bias: str | None = None

    @property
    def trained(self) -> tuple[str, str]:
        """The names of the tensors that gradients train."""
        return self.scale, self.bias

    @property
    def statistics(self) -> tuple[str, str]:
        """The names of the running mean and variance."""
        return self.mean, self.variance

    @property
    def observed(self) -> tuple[str, str]:
        """The names under which mean and variance are measured: tensors may be shared."""
        return f"{self.output}/mean/observed", f"{self.output}/variance/observed"


def find(model: ir.Model) -> list[Normalization]:
    """Return the BatchNormalizations of ``model`` whose four tensors are all graph inputs."""
    inputs = set(model.graph.inputs)
    found = []
    for node in model.graph:
        if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
            continue
        tensors = node.inputs[1:5]
        if len(tensors) != 4 or any(t is None or t not in inputs for t in tensors):
            continue
        shape = tensors[0].shape  # type: ignore[union-attr]
        scale, bias, mean, variance = (str(t.name) for t in tensors if t is not None)
        found.append(
            Normalization(
                str(node.outputs[0].name),
                scale,
                bias,
                mean,
                variance,
                epsilon=node.attributes.get_float("epsilon", EPSILON),
                channels=int(shape[0]),  # type: ignore[index,arg-type]
            )
        )
    return found


def insert(
    model: ir.Model, weights: Collection[str], unbiased: Collection[str] | None = None
) -> list[Normalization]:
    """Insert a BatchNormalization behind every convolution that lost its own; in place.

    Eligible is a Conv whose filter is one of ``weights`` and whose bias, if any, is a graph input
    as well, both used by this node alone, whose output is none of the model's and does not already
    enter a BatchNormalization, and behind which another weight follows: the last layer's scale is
    the model's answer and stays. `fold` gives every such Conv a bias; without one before, only the
    filters in ``unbiased`` are eligible, all if None. The four tensors become graph inputs.
    """
    graph = model.graph
    taken = {value.name for value in _values(graph)}
    leads_to_weight = _leads_to_weight(graph)
    inserted = []
    for node in list(graph):
        if not _eligible(node, weights, unbiased) or not leads_to_weight[node]:
            continue
        old = node.outputs[0]
        channels = int(node.inputs[1].shape[0])  # type: ignore[union-attr,index,arg-type]
        tensors = [
            ir.val(_unused(f"{old.name}/{part}", taken), ir.DataType.FLOAT, [channels])
            for part in ("scale", "bias", "mean", "variance")
        ]
        graph.inputs.extend(tensors)
        normalise = ir.node(
            "BatchNormalization",
            [old, *tensors],
            attributes={"epsilon": EPSILON},
            outputs=[
                ir.Value(
                    name=_unused(f"{old.name}/normalised", taken), type=old.type, shape=old.shape
                )
            ],
        )
        ir.convenience.replace_all_uses_with(old, normalise.outputs[0])
        normalise.replace_input_with(0, old)
        graph.insert_after(node, normalise)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        scale_name, bias_name, mean_name, variance_name = (str(t.name) for t in tensors)
        inserted.append(
            Normalization(
                str(normalise.outputs[0].name),
                scale_name,
                bias_name,
                mean_name,
                variance_name,
                epsilon=EPSILON,
                channels=channels,
                weight=node.inputs[1].name,  # type: ignore[union-attr]
                conv_bias=None if bias is None else bias.name,
            )
        )
    return inserted


def with_observed_statistics(model: ir.Model, normalizations: Iterable[Normalization]) -> ir.Model:
    """Return a copy whose added outputs are mean and variance of what enters each normalisation.

    The outputs are called `Normalization.observed`, shape (channels,), over batch and positions;
    the model itself still runs on its running statistics.
    """
    copy = model.clone()
    by_output = {node.outputs[0].name: node for node in copy.graph if node.outputs}
    for norm in normalizations:
        node = by_output[norm.output]
        entering = node.inputs[0]
        measured = ir.node(
            "BatchNormalization",
            list(node.inputs),
            attributes={"epsilon": norm.epsilon, "training_mode": 1, "momentum": 0.0},
            outputs=_statistics_outputs(norm, entering),
        )
        copy.graph.append(measured)
        copy.graph.outputs.extend(measured.outputs[1:])
    return copy


def with_batch_statistics(model: ir.Model, normalizations: Iterable[Normalization]) -> ir.Model:
    """Return a copy that normalises by the statistics of the batch and outputs them too.

    Names and shapes of the added outputs are those of `with_observed_statistics`. In the
    specification's terms: training_mode=1 with momentum 0, so that the running statistics that
    come out are those of the batch (biased variance).
    """
    copy = model.clone()
    for norm in normalizations:
        node = next(n for n in copy.graph if n.outputs and n.outputs[0].name == norm.output)
        outputs = _statistics_outputs(norm, node.inputs[0])
        replacement = ir.node(
            "BatchNormalization",
            list(node.inputs),
            attributes={"epsilon": norm.epsilon, "training_mode": 1, "momentum": 0.0},
            outputs=outputs,
        )
        was_output = node.outputs[0].is_graph_output()
        ir.convenience.replace_nodes_and_values(
            copy.graph, node, [node], [replacement], [node.outputs[0]], [outputs[0]]
        )
        outputs[0].name = norm.output
        assert not was_output or outputs[0].is_graph_output()
        copy.graph.outputs.extend(outputs[1:])
    return copy


def train(model: ir.Model, normalizations: Iterable[Normalization]) -> None:
    """Let ``normalizations`` train, in place: gradients flow through the statistics of the batch.

    The updated running statistics, which the specification asks for, are outputs two and three.
    """
    by_output = {norm.output: norm for norm in normalizations}
    for node in model.graph:
        norm = by_output.get(node.outputs[0].name or "") if node.outputs else None
        if norm is None:
            continue
        node.attributes["training_mode"] = ir.AttrInt64("training_mode", 1)
        node.resize_outputs(3)
        for value, name in zip(node.outputs[1:], ("mean", "variance"), strict=True):
            value.name = f"{norm.output}/{name}/running"
            value.type = ir.TensorType(ir.DataType.FLOAT)
            value.shape = ir.Shape([norm.channels])


def identity(
    normalizations: Iterable[Normalization],
    weights: Mapping[str, np.ndarray],
    statistics: Mapping[str, np.ndarray],
    filter_scale: str,
) -> dict[str, np.ndarray]:
    """Return tensors with which every inserted normalisation leaves the dense model as it is.

    ``statistics`` holds mean and variance of the dense convolution's output under the names of the
    normalisation's tensors. Scale and bias become sqrt(variance + epsilon) and mean. The filter may
    then have any positive scale, which the normalisation absorbs; ``filter_scale`` names one of
    `FILTER_SCALES`. The result holds the four tensors, the filters and the convolutions' biases.
    """
    tensors: dict[str, np.ndarray] = {}
    for norm in normalizations:
        if norm.weight is None:
            continue
        mean = statistics[norm.mean].astype(np.float64)
        spread = np.sqrt(statistics[norm.variance].astype(np.float64) + norm.epsilon)
        tensors[norm.scale] = spread.astype(np.float32)
        tensors[norm.bias] = mean.astype(np.float32)
        biases = [] if norm.conv_bias is None else [norm.conv_bias]
        tensors |= _scaled(norm, norm.weight, biases, weights, statistics, filter_scale)
    return tensors


def restate(
    normalizations: Sequence[Normalization],
    tensors: Mapping[str, np.ndarray],
    statistics: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return tensors that compute the same with other ``statistics``: scale and bias make up.

    ``statistics`` holds mean and variance of what enters each normalisation under the names of its
    tensors; one that shares a tensor with another stays as it is. A channel whose variance is
    nothing beside the one it had keeps its statistics: its scale would have to be nothing, too.
    """
    names = [name for norm in normalizations for name in (*norm.trained, *norm.statistics)]
    restated: dict[str, np.ndarray] = {}
    for norm in normalizations:
        own = (*norm.trained, *norm.statistics)
        if any(names.count(name) > 1 for name in own):
            continue
        scale, bias, mean, variance = (tensors[name].astype(np.float64) for name in own)
        kept = statistics[norm.variance] <= 1e-3 * variance
        new_mean = np.where(kept, mean, statistics[norm.mean])
        new_variance = np.where(kept, variance, statistics[norm.variance])
        spread = np.sqrt(variance + norm.epsilon)
        values = (
            scale * np.sqrt(new_variance + norm.epsilon) / spread,
            bias + scale * (new_mean - mean) / spread,
            new_mean,
            new_variance,
        )
        restated |= {n: v.astype(np.float32) for n, v in zip(own, values, strict=True)}
    return restated


def rescale(
    model: ir.Model,
    normalizations: Iterable[Normalization],
    weights: Collection[str],
    tensors: Mapping[str, np.ndarray],
    filter_scale: str,
) -> dict[str, np.ndarray]:
    """Return filters of the scale that `identity` gives them, and statistics that make up for it.

    For normalisations that ``model`` has, right behind a Conv whose filter is one of ``weights``
    and used there alone, as its output and its bias are.
    """
    by_output = {node.outputs[0].name: node for node in model.graph if node.outputs}
    names = [name for norm in normalizations for name in norm.statistics]
    rescaled: dict[str, np.ndarray] = {}
    for norm in normalizations:
        entering = by_output[norm.output].inputs[0]
        node = None if entering is None else entering.producer()
        if node is None or not _is_own_filter(node, weights):
            continue
        if any(names.count(name) > 1 for name in norm.statistics):
            continue
        weight, *biases = (str(value.name) for value in node.inputs[1:3] if value is not None)
        rescaled |= _scaled(norm, weight, biases, tensors, tensors, filter_scale)
    return rescaled


def _scaled(
    norm: Normalization,
    weight: str,
    biases: Iterable[str],
    weights: Mapping[str, np.ndarray],
    statistics: Mapping[str, np.ndarray],
    filter_scale: str,
) -> dict[str, np.ndarray]:
    """Return filter and biases of a convolution, scaled, and the statistics that make up for it."""
    mean, variance = (statistics[name].astype(np.float64) for name in norm.statistics)
    spread = np.sqrt(variance + norm.epsilon)
    filters = weights[weight]
    factor = FILTER_SCALES[filter_scale](filters, spread)
    # Weight decay leaves next to nothing of a filter that is not used: nothing to be scaled up.
    factor = np.where(variance > DROWNED * norm.epsilon, factor, 1.0)
    # A scaled variance has to stay one: it must not fall below zero with epsilon taken off.
    factor = np.maximum(factor, np.sqrt(norm.epsilon) / spread)
    return {
        weight: (filters * _per_filter(factor, filters)).astype(np.float32),
        norm.mean: (mean * factor).astype(np.float32),
        norm.variance: ((spread * factor) ** 2 - norm.epsilon).astype(np.float32),
        **{bias: (weights[bias] * factor).astype(np.float32) for bias in biases},
    }


def _is_own_filter(node: ir.Node, weights: Collection[str]) -> bool:
    if node.op_type != "Conv" or node.domain not in ("", "ai.onnx"):
        return False
    tensors = [value for value in node.inputs[1:3] if value is not None]
    output = node.outputs[0]
    if any(len(value.uses()) != 1 for value in (*tensors, output)) or output.is_graph_output():
        return False
    return tensors[0].name in weights and all(value.is_graph_input() for value in tensors)


def fold(
    normalization: Normalization, tensors: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return filter and bias of the convolution that equals convolution and normalisation.

    Computed in float64, returned in float32. Zeros stay zero, and no other weight becomes zero: a
    product too small for float32 keeps its sign and the smallest normal magnitude.
    """
    assert normalization.weight is not None
    scale, bias, mean, variance = (
        tensors[name].astype(np.float64)
        for name in (
            normalization.scale,
            normalization.bias,
            normalization.mean,
            normalization.variance,
        )
    )
    factor = scale / np.sqrt(variance + normalization.epsilon)
    filters = tensors[normalization.weight]
    folded = (filters * _per_filter(factor, filters)).astype(np.float32)
    lost = (folded == 0) & (filters != 0)
    folded[lost] = np.copysign(np.finfo(np.float32).tiny, filters[lost])
    before = 0.0 if normalization.conv_bias is None else tensors[normalization.conv_bias]
    return folded, ((before - mean) * factor + bias).astype(np.float32)


def statistics_mean(
    batches: Sequence[Mapping[str, np.ndarray]],
    sizes: Sequence[int],
    normalizations: Iterable[Normalization],
) -> dict[str, np.ndarray]:
    """Pool what was observed in batches of ``sizes`` samples: total mean and variance by tensor."""
    pooled = {}
    for norm in normalizations:
        means, variances = (
            np.stack([batch[name] for batch in batches]).astype(np.float64)
            for name in norm.observed
        )
        mean = np.average(means, axis=0, weights=sizes)
        within, between = (
            np.average(values, axis=0, weights=sizes)
            for values in (variances, np.square(means - mean))
        )
        pooled[norm.mean] = mean.astype(np.float32)
        pooled[norm.variance] = (within + between).astype(np.float32)
    return pooled


def _unscaled(filters: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.ones(len(filters))


def _to_unit_variance(filters: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return 1.0 / spread


def _to_he_initialisation(filters: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Root mean square sqrt(2 / fan_in), as He et al. (arXiv 1502.01852) initialise."""
    squares = np.square(filters.astype(np.float64)).reshape(len(filters), -1)
    rms = np.sqrt(squares.mean(axis=1))
    wanted = np.sqrt(2.0 / squares.shape[1])
    return np.where(rms > 0, wanted / np.maximum(rms, 1e-30), 1.0)


FILTER_SCALES = {
    "none": _unscaled,
    "unit-variance": _to_unit_variance,
    "he": _to_he_initialisation,
}


def _per_filter(factor: np.ndarray, filters: np.ndarray) -> np.ndarray:
    return factor.reshape(-1, *[1] * (filters.ndim - 1))


def _statistics_outputs(norm: Normalization, entering: ir.Value | None) -> list[ir.Value]:
    assert entering is not None
    measured = [ir.val(name, ir.DataType.FLOAT, [norm.channels]) for name in norm.observed]
    normalised = ir.Value(name=f"{norm.output}/by_batch", type=entering.type, shape=entering.shape)
    return [normalised, *measured]


def _eligible(node: ir.Node, weights: Collection[str], unbiased: Collection[str] | None) -> bool:
    if node.op_type != "Conv" or node.domain not in ("", "ai.onnx"):
        return False
    filters, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if filters is None or filters.name not in weights or len(filters.uses()) != 1:
        return False
    if bias is None and unbiased is not None and filters.name not in unbiased:
        return False
    # The scale of the filter goes into the bias: a computed one, or one of others, cannot take it.
    if bias is not None and not (bias.is_graph_input() and len(bias.uses()) == 1):
        return False
    if filters.shape is None or not isinstance(filters.shape[0], int):
        return False
    output = node.outputs[0]
    users = output.uses()
    if not users or output.is_graph_output():
        return False
    return not any(user.node.op_type == "BatchNormalization" for user in users)


def _leads_to_weight(graph: ir.Graph) -> dict[ir.Node, bool]:
    """Tell for each node whether an operator with weights takes its output, however far away."""
    answer: dict[ir.Node, bool] = {}
    for node in reversed(list(graph)):
        users = {use.node for value in node.outputs for use in value.uses()}
        answer[node] = any(
            user.op_type in WEIGHT_OPERATORS or answer.get(user, True) for user in users
        )
    return answer


def _values(graph: ir.Graph) -> Iterable[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _unused(name: str, taken: set[str | None]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
