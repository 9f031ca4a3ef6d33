"""The keys that every ``report.json`` has, without which it cannot be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["missing_key"]

FILE = ("path", "sha256", "bytes", "bytes_zipped")
STAGE = ("divergence", "samples")
# By section, the document itself first; a section that is empty or not there holds none, and one
# that is a list holds them in each of its entries.
KEYS: dict[str, tuple[str, ...]] = {
    "": ("command", "recipe", "versions", "seed", "model", "output", "sparsity", "warnings"),
    "model": FILE,
    "output": FILE,
    "data": ("description",),
    "measured_on": ("description",),
    "sparsity": ("target", "achieved", "weights", "zeros", "per_layer"),
    "sparsity.per_layer": ("name", "operator", "shape", "count", "zeros", "sparsity"),
    "fidelity.before_recovery": STAGE,
    "fidelity.after_recovery": STAGE,
    "search": ("images", "best_by_generation"),
    "training": ("images",),
    "training.history": ("step", "samples"),
    "latency": ("dense_ms", "sparse_ms", "ratio", "runs", "samples", "threads", "runtime"),
    "dead_channels": ("channels", "removed", "tensors"),
    "storage": ("bytes_entropy_bound",),
    "goal": ("kind", "limit", "sparsity", "reached", "trials"),
    "goal.trials": ("sparsity", "measured"),
}


def missing_key(report: Mapping[str, Any]) -> str:
    """Return the dotted name of the first key that ``report`` lacks, empty where it has all."""
    for section, keys in KEYS.items():
        for entry in _entries(report, section):
            for key in keys:
                if not isinstance(entry, Mapping) or key not in entry:
                    return f"{section}.{key}".lstrip(".")
    return ""


def _entries(report: Mapping[str, Any], section: str) -> Iterator[Any]:
    found: Any = report
    for part in filter(None, section.split(".")):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, list):
        yield from found
    elif found:
        yield found
