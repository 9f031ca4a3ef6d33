"""Statistics of normalisations: observed beside the running ones, in their place, and pooled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.normalization.found import Normalization

__all__ = ["statistics_mean", "train", "with_batch_statistics", "with_observed_statistics"]


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
        copy.graph.insert_before(node, measured)
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


def _statistics_outputs(norm: Normalization, entering: ir.Value | None) -> list[ir.Value]:
    assert entering is not None
    measured = [ir.val(name, ir.DataType.FLOAT, [norm.channels]) for name in norm.observed]
    normalised = ir.Value(name=f"{norm.output}/by_batch", type=entering.type, shape=entering.shape)
    return [normalised, *measured]
