"""The documents that commands print with ``--json``: ``report.json`` and its smaller relatives."""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_unipts.json_text import plain

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_unipts.evaluation import Accuracy, Fidelity
    from onnx_unipts.export import Written
    from onnx_unipts.export.qdq import Quantized
    from onnx_unipts.graph.channels import Elimination
    from onnx_unipts.graph.prunable import PrunableWeight

__all__ = [
    "LayerSparsity",
    "Report",
    "benchmark_document",
    "describe_file",
    "entropy_bound",
    "evaluation_document",
    "inspection_document",
    "layer_sparsities",
    "quantization_facts",
    "report_document",
    "storage_facts",
]

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class LayerSparsity:
    """How many of one weight's elements are zero."""

    name: str
    operator: str
    shape: tuple[int, ...]
    count: int
    zeros: int

    @property
    def sparsity(self) -> float:
        """The share of zeros."""
        return self.zeros / self.count


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
        time: ``search_seconds``, ``training_seconds``, ``total_seconds``.
        search: ``evaluations``, ``images``, ``best_by_generation``.
        training: ``steps``, ``images``, ``loss`` by step, and ``history`` by epoch: ``epoch``,
            ``step``, ``samples``, ``divergence``, ``agreement``, ``accuracy`` as if it ended there.
        measured: ``latency``, ``load`` and ``memory`` of the dense and the written file, see
            `onnx_unipts.measurement`; what was not measured is missing.
        runtimes: which runtimes gain from the zeros, a sentence each.
        memory_peak_bytes: the largest resident size of the process.
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
            "search": report.search,
            "training": report.training,
            **{key: report.measured.get(key) for key in ("latency", "load", "memory")},
            "runtimes": report.runtimes,
            "memory_peak_bytes": report.memory_peak_bytes,
            "dead_channels": _dead_channels(report.eliminated),
            "storage": report.storage or None,
            "quantization": report.quantization or None,
            "warnings": report.warnings,
        }
    )


def storage_facts(
    report: Report, written: Written, weights: Sequence[PrunableWeight]
) -> dict[str, Any]:
    """Return how a file stores its weights, and the least that any way to store them could take.

    That is the `entropy_bound`, for a quantised file with the zeros that there were before.
    """
    import onnx_ir as ir

    sizes = {weight.key: ir.DataType[weight.dtype].itemsize for weight in weights}
    quantized = written.storage.quantize is not None
    return {
        "format": written.storage.format,
        "pack": written.storage.pack if written.storage.format == "packed" else None,
        "values": written.storage.values,
        "bytes_entropy_bound": entropy_bound(
            report.model["bytes"], report.layers, sizes, 1 if quantized else None
        ),
        "files": [str(file) for file in written.files],
        "weights": written.weights,
    }


def entropy_bound(
    dense_bytes: int,
    layers: Sequence[LayerSparsity],
    sizes: Mapping[str, float],
    stored: int | None = None,
) -> int:
    """Return the fewest bytes that a dense file takes once its zeros are stored as such.

    Of n weights of b bits each, a share s of them zero, n (H(s) + (1 - s) b) bits, H the binary
    entropy. ``sizes`` are the bytes of an element in the dense file by layer; ``stored`` is what
    one that is not zero takes afterwards, where that is another.
    """
    bound = float(dense_bytes)
    for layer in layers:
        size = sizes[layer.name]
        kept = (layer.count - layer.zeros) * (stored or size)
        bound += kept + layer.count * _entropy(layer.sparsity) / 8 - layer.count * size
    return round(bound)


def quantization_facts(report: Report, quantized: Quantized | None) -> dict[str, Any]:
    """Return what was quantised: how, on how many samples, and the zeros of each weight.

    ``zeros`` are those of the integers: values much smaller than the largest of their channel
    become zero, too. ``pruned`` are those that there were before; None for what is not pruned.
    """
    if quantized is None:
        return {}
    pruned = {layer.name: layer.zeros for layer in report.layers}
    return {
        "kind": "int8",
        "samples": quantized.samples,
        "weights": [
            {"name": name, "zeros": zeros, "pruned": pruned.get(name)}
            for name, zeros in quantized.zeros.items()
        ],
    }


def _entropy(share: float) -> float:
    """Return the binary entropy of ``share`` in bits."""
    if not 0 < share < 1:
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


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
) -> dict[str, Any]:
    """Return what ``inspect`` prints: every weight of the model file, and its signature.

    Initializers that are also listed as inputs (IR version 3) are left out.
    """
    return plain(
        {
            "model": model,
            "weights": [asdict(weight) for weight in weights],
            "inputs": [_signature(value) for value in inputs if not value.is_initializer()],
            "outputs": [_signature(value) for value in outputs],
        }
    )


def layer_sparsities(
    weights: Sequence[PrunableWeight], tensors: Mapping[str, np.ndarray]
) -> list[LayerSparsity]:
    """Count the zeros of those ``weights`` that are pruned in ``tensors``, by their keys."""
    return [
        LayerSparsity(
            name=weight.key,
            operator=weight.operator,
            shape=weight.shape,
            count=weight.count,
            zeros=int(np.count_nonzero(tensors[weight.key] == weight.zero)),
        )
        for weight in weights
        if weight.pruned
    ]


def describe_file(
    path: str | os.PathLike[str], external: Sequence[str | os.PathLike[str]] = ()
) -> dict[str, Any]:
    """Return the path and sha256 of a model file, its ``bytes`` and its ``bytes_zipped``.

    The sizes include the files in ``external``, which hold tensors; zipped is what deflate, the
    compression of zip files and app packages, makes of each.
    """
    sha256, size, zipped = _measure(Path(path))
    for other in external:
        _, other_size, other_zipped = _measure(Path(other))
        size, zipped = size + other_size, zipped + other_zipped
    return {
        "path": os.fspath(path),
        "sha256": sha256,
        "bytes": size,
        "bytes_zipped": zipped,
    }


def _measure(path: Path) -> tuple[str, int, int]:
    digest, deflate, size, zipped = hashlib.sha256(), zlib.compressobj(), 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            zipped += len(deflate.compress(chunk))
    return digest.hexdigest(), size, zipped + len(deflate.flush())


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


def _dead_channels(eliminated: Elimination | None) -> dict[str, Any] | None:
    """Return how many channels were removed, of how many, and the tensors that shrank by it."""
    if eliminated is None:
        return None
    return {
        "channels": eliminated.channels,
        "dead": eliminated.dead,
        "removed": eliminated.removed,
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
