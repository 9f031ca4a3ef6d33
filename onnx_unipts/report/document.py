"""The documents that commands print with ``--json``: ``report.json`` and its smaller relatives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from onnx_unipts.json_text import plain
from onnx_unipts.report.layers import LayerSparsity

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_unipts.evaluation import Accuracy, Fidelity
    from onnx_unipts.graph.channels import Elimination
    from onnx_unipts.graph.prunable import PrunableWeight

__all__ = [
    "Report",
    "benchmark_document",
    "evaluation_document",
    "inspection_document",
    "report_document",
]


@dataclass
class Report:
    """What a run of ``compress`` found out. What does not apply stays empty.

    Attributes:
        command: the command line, or the call, that repeats the run.
        recipe: all settings, as ``Recipe.model_dump`` gives them.
        versions: of Python and the libraries, see `onnx_unipts.environment.versions`.
        seed: the random seed.
        model: the dense model's file, see `describe_file`.
        output: the written file, see `describe_file`; empty while there is none.
        target: the sparsity asked for.
        layers: the pruned weights, in graph order.
        fidelity: by stage, ``before_recovery`` and ``after_recovery``, the written file; where
            that is quantised, ``before_quantization`` too.
        accuracy: by stage, ``dense`` too; empty without labels.
        data: where inputs came from (``description``), how many (``samples``, ``skipped``).
        measured_on: the same for the data that fidelity and accuracy were measured on.
        time: ``preparation_seconds`` (of reading, checking and adapting the dense model),
            ``rehearsal_seconds`` (0 without one), ``search_seconds``, ``training_seconds``,
            ``total_seconds``.
        rotation: ``streams`` turned to where weights are sparser, ``channels`` of all of them.
        search: ``evaluations``, ``images``, ``best_by_generation``.
        training: ``steps``, ``images``, ``loss`` by step, and ``history`` by epoch: ``epoch``,
            ``step``, ``samples``, ``divergence``, ``agreement``, ``accuracy`` as if it ended there;
            ``reconstruction``: whether layers were fitted before.
        measured: ``latency``, ``load`` and ``memory`` of the dense and the written file, see
            `onnx_unipts.measurement`; what was not measured is missing.
        runtimes: which runtimes gain from the zeros, a sentence each.
        memory_peak_bytes: the largest resident size of the process, or of one that it ran.
        eliminated: the dead channels that were removed; None where they were to stay.
        storage: how the file stores the weights, see `storage_facts`.
        quantization: what was quantised, see `quantization_facts`; empty where nothing was.
        warnings: what the user was warned of.
    """

    command: str
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    seed: int
    model: Mapping[str, Any]
    target: float
    layers: Sequence[LayerSparsity]
    output: Mapping[str, Any] = field(default_factory=dict)
    fidelity: Mapping[str, Fidelity] = field(default_factory=dict)
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    measured_on: Mapping[str, Any] = field(default_factory=dict)
    time: Mapping[str, float] = field(default_factory=dict)
    rotation: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    runtimes: Sequence[str] = ()
    memory_peak_bytes: int | None = None
    eliminated: Elimination | None = None
    storage: Mapping[str, Any] = field(default_factory=dict)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def report_document(report: Report) -> dict[str, Any]:
    """Return what ``report.json`` holds: plain lists, dicts, strings and numbers."""
    return plain(
        {
            "command": report.command,
            "recipe": report.recipe,
            "versions": report.versions,
            "seed": report.seed,
            "model": report.model,
            "output": report.output or None,
            "data": report.data or None,
            "measured_on": report.measured_on or None,
            "sparsity": _sparsity(report.layers, report.target),
            "fidelity": _fidelity(report.fidelity),
            "accuracy": _accuracy(report.accuracy),
            "time": report.time,
            "rotation": report.rotation,
            "search": report.search,
            "training": report.training,
            **{key: report.measured.get(key) for key in ("latency", "load", "memory")},
            "runtimes": report.runtimes,
            "memory_peak_bytes": report.memory_peak_bytes,
            "dead_channels": _dead_channels(report.eliminated, report.layers),
            "storage": report.storage or None,
            "quantization": report.quantization or None,
            "warnings": report.warnings,
        }
    )


def evaluation_document(
    dense: Mapping[str, Any],
    sparse: Mapping[str, Any],
    layers: Sequence[LayerSparsity],
    fidelity: Fidelity | None,
    accuracy: Mapping[str, Accuracy],
    data: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what ``evaluate`` prints: two files (`describe_file`) and how they compare.

    ``accuracy`` is by model, ``dense`` and ``sparse``; empty without labels.
    """
    return plain(
        {
            "dense": dense,
            "sparse": sparse,
            "sparsity": _sparsity(layers),
            "fidelity": _fidelity({"sparse": fidelity} if fidelity is not None else {}),
            "accuracy": _accuracy(accuracy),
            "data": data,
            "warnings": warnings,
        }
    )


def benchmark_document(
    dense: Mapping[str, Any],
    sparse: Mapping[str, Any],
    *,
    measured: Mapping[str, Any],
    layers: Sequence[LayerSparsity] = (),
    bound: int | None = None,
    runtimes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what ``benchmark`` prints: two files (`describe_file`), and what was ``measured``.

    ``layers`` and ``bound`` (see `entropy_bound`) are missing where the zeros cannot be counted.
    """
    return plain(
        {
            "dense": dense,
            "sparse": sparse,
            "sparsity": _sparsity(layers) if layers else None,
            "bytes_entropy_bound": bound,
            **measured,
            "runtimes": runtimes,
        }
    )


def inspection_document(
    model: str | os.PathLike[str],
    weights: Sequence[PrunableWeight],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    last_resort: str = "",
) -> dict[str, Any]:
    """Return what ``inspect`` prints: every weight of the model file, and its signature.

    Initializers that are also listed as inputs (IR version 3) are left out. ``last_resort`` is the
    kind of weights that are pruned unasked because the model has no others.
    """
    return plain(
        {
            "model": model,
            "weights": [asdict(weight) for weight in weights],
            "inputs": [_signature(value) for value in inputs if not value.is_initializer()],
            "outputs": [_signature(value) for value in outputs],
            "last_resort": last_resort or None,
        }
    )


def _sparsity(layers: Sequence[LayerSparsity], target: float | None = None) -> dict[str, Any]:
    weights = sum(layer.count for layer in layers)
    zeros = sum(layer.zeros for layer in layers)
    return {
        **({} if target is None else {"target": target}),
        "achieved": zeros / weights if weights else 0.0,
        "weights": weights,
        "zeros": zeros,
        "per_layer": [{**asdict(layer), "sparsity": layer.sparsity} for layer in layers],
    }


def _fidelity(stages: Mapping[str, Fidelity]) -> dict[str, Any] | None:
    """Return divergence and agreement by stage, and the 95 % intervals of the agreement."""
    if not stages:
        return None
    return {
        **{stage: asdict(fidelity) for stage, fidelity in stages.items()},
        "interval": {
            stage: _agreement_interval(fidelity)
            for stage, fidelity in stages.items()
            if fidelity.agreement is not None
        },
    }


def _agreement_interval(fidelity: Fidelity) -> tuple[float, float]:
    from onnx_unipts.evaluation import wilson_interval

    assert fidelity.agreement is not None
    return wilson_interval(round(fidelity.agreement * fidelity.samples), fidelity.samples)


def _accuracy(stages: Mapping[str, Accuracy]) -> dict[str, Any] | None:
    """Return the accuracy by stage as a share, and the 95 % intervals by stage."""
    if not stages:
        return None
    return {
        **{stage: accuracy.value for stage, accuracy in stages.items()},
        "interval": {stage: accuracy.interval for stage, accuracy in stages.items()},
        "samples": max(accuracy.samples for accuracy in stages.values()),
    }


def _dead_channels(
    eliminated: Elimination | None, layers: Sequence[LayerSparsity]
) -> dict[str, Any] | None:
    """Return how many channels were removed, of how many, and the tensors that shrank by it.

    ``weights`` of those of the ``layers`` that are not zero went with them, as nothing read them.
    """
    if eliminated is None:
        return None
    return {
        "channels": eliminated.channels,
        "dead": eliminated.dead,
        "removed": eliminated.removed,
        "weights": sum(eliminated.live.get(layer.name, 0) for layer in layers),
        "tensors": [
            {"name": name, "shape": before, "shape_after": after}
            for name, (before, after) in eliminated.shapes.items()
        ],
    }


def _signature(value: ir.Value) -> dict[str, Any]:
    import onnx_ir as ir

    document = {
        "name": value.name,
        "shape": None if value.shape is None else [_dimension(axis) for axis in value.shape],
        "dtype": None if value.dtype is None else value.dtype.name,
    }
    return {**document, "sequence": True} if isinstance(value.type, ir.SequenceType) else document


def _dimension(axis: int | ir.SymbolicDim) -> int | str | None:
    return axis if isinstance(axis, int) else axis.value
