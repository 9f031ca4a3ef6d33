"""Allocations in files: what a run writes, and what `--allocation FILE` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_unipts.allocation.problem import ALLOCATORS, Kept
from onnx_unipts.graph.errors import UsageError

__all__ = ["allocation_document", "read_allocation"]


def allocation_document(sparsity: float, method: str, kept: Kept, counts: Mapping[str, int]) -> Any:
    """Return what ``allocation.json`` holds: weights, kept weights and sparsity of every layer."""
    return {
        "method": method,
        "target": sparsity,
        "achieved": 1 - sum(kept.values()) / sum(counts.values()),
        "layers": [
            {
                "name": name,
                "count": count,
                "kept": kept[name],
                "sparsity": 1 - kept[name] / count,
            }
            for name, count in counts.items()
        ],
    }


def read_allocation(path: str, counts: Mapping[str, int]) -> Kept:
    """Read an allocation for layers of ``counts`` weights.

    Raises `UsageError` if the file is no allocation, or one for other layers.
    """
    if not Path(path).is_file():
        raise UsageError(
            f"unknown allocation {path!r}: neither a file nor one of {', '.join(ALLOCATORS)}"
        )
    try:
        layers: Sequence[Mapping] = json.loads(Path(path).read_text(encoding="utf-8"))["layers"]
        kept = {str(layer["name"]): int(layer["kept"]) for layer in layers}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not an allocation, as allocation.json of a run is") from error
    if kept.keys() != counts.keys():
        odd = sorted(kept.keys() ^ counts.keys())
        raise UsageError(f"{path}: layers differ from the model's, first {odd[0]!r}")
    for name, count in counts.items():
        if not 0 <= kept[name] <= count:
            raise UsageError(f"{path}: layer {name!r} keeps {kept[name]} of {count} weights")
    return {name: kept[name] for name in counts}
