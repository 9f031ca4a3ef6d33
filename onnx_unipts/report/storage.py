"""How a file stores its weights, and the fewest bytes that they could take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnx_unipts.graph.channels import Elimination
from onnx_unipts.report.document import Report
from onnx_unipts.report.layers import LayerSparsity

if TYPE_CHECKING:
    from onnx_unipts.export import Storage, Written
    from onnx_unipts.export.qdq import Quantized
    from onnx_unipts.graph.prunable import PrunableWeight

__all__ = ["entropy_bound", "quantization_facts", "storage_facts"]


def storage_facts(
    report: Report, written: Written, weights: Sequence[PrunableWeight]
) -> dict[str, Any]:
    """Return how a file stores its weights, and the least that any way to store them could take.

    That is the `entropy_bound`, for a quantised file with the zeros that there were before.
    """
    import onnx_ir as ir

    sizes = {weight.key: ir.DataType[weight.dtype].itemsize for weight in weights}
    removed = report.eliminated or Elimination()
    cut = {name: math.prod(after) for name, (_, after) in removed.shapes.items()}
    layers = [replace(e, zeros=e.zeros + removed.live.get(e.name, 0)) for e in report.layers]
    return {
        "format": written.storage.format,
        "pack": written.storage.pack if written.storage.format == "packed" else None,
        "values": written.storage.values,
        "bytes_entropy_bound": entropy_bound(
            report.model["bytes"], layers, sizes, _bytes_of_value(written.storage), cut
        ),
        "files": [str(file) for file in written.files],
        "weights": written.weights,
    }


def entropy_bound(
    dense_bytes: int,
    layers: Sequence[LayerSparsity],
    sizes: Mapping[str, float],
    stored: int | None = None,
    cut: Mapping[str, int] | None = None,
) -> int:
    """Return the fewest bytes that a dense file takes once its zeros are stored as such.

    Of n weights of b bits each, a share s of them zero, n (H(s) + (1 - s) b) bits, H the binary
    entropy. ``sizes`` are the bytes of an element in the dense file by layer; ``stored`` is what
    one that is not zero takes afterwards, where that is another, and ``cut`` how many elements are
    left of tensors that lost channels.
    """
    # A dense file that is packed itself is smaller than its weights.
    bound = float(max(dense_bytes, sum(layer.count * sizes[layer.name] for layer in layers)))
    for layer in layers:
        size = sizes[layer.name]
        count = (cut or {}).get(layer.name, layer.count)
        kept = min(layer.count - layer.zeros, count)
        bits = count * _entropy(1 - kept / count) if count else 0.0
        bound += kept * min(stored or size, size) + bits / 8 - layer.count * size
    return round(bound)


def _bytes_of_value(storage: Storage) -> int | None:
    """Return what a value takes, None where it is what it takes in the dense file."""
    if storage.quantize is not None:
        return 1
    return 2 if storage.values == "float16" else None


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
