"""Allocations by an allocator or from a file: what a run writes, and `--allocation FILE` reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from onnx_unipts.allocation.automatic import AUTO
from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import ALLOCATORS, Problem
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.hint import hint

__all__ = [
    "allocate",
    "allocation_document",
    "check_method",
    "is_allocator",
    "kept_in",
    "read_allocation",
    "target_in",
]

T = TypeVar("T")

# Sparsities may be rounded where a file is edited.
ROUNDED = 1e-3


@dataclass(frozen=True)
class _Layer:
    """What the file says of a layer."""

    name: str
    kept: float
    count: float | None
    sparsity: float | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> _Layer:
        """Read an entry of the file."""
        count, sparsity = (
            None if entry.get(key) is None else float(entry[key]) for key in ("count", "sparsity")
        )
        return cls(str(entry["name"]), float(entry["kept"]), count, sparsity)

    def contradicts(self) -> bool:
        """Tell whether the sparsity is another than that of the weights that are kept."""
        if self.sparsity is None or not self.count:
            return False
        return abs(self.sparsity - 1 + self.kept / self.count) > ROUNDED + 1 / self.count


def is_allocator(method: str) -> bool:
    """Whether ``method`` is the name of an allocator: anything else is a file."""
    return method in (AUTO, *ALLOCATORS)


def check_method(method: str) -> None:
    """Raise `UsageError` unless ``method`` is an allocator's name or a file."""
    if not is_allocator(method) and not Path(method).is_file():
        raise UsageError(
            f"unknown allocation {method!r}{hint(method, ALLOCATORS)}: neither a file nor one of "
            f"{', '.join((AUTO, *ALLOCATORS))}"
        )


def allocate(method: str, problem: Problem) -> Kept:
    """Solve ``problem`` by the allocator called ``method``, or by the allocation in that file.

    Each count is one that the pattern allows; blocks may make their sum less than one block smaller
    than the total of ``problem``.
    """
    if method in ALLOCATORS:
        return _rounded(problem, ALLOCATORS[method](problem))
    return read_allocation(method, problem)


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


def kept_in(path: str) -> Kept:
    """Return what the file keeps of each layer.

    Raises `UsageError` if it is no allocation, or says two things of one layer.
    """
    check_method(path)
    kept: Kept = {}
    for layer in _read(path, lambda document: [*map(_Layer.of, document["layers"])]):
        if layer.name in kept:
            raise UsageError(f"{path}: layer {layer.name!r} stands there twice")
        if not layer.kept.is_integer():
            raise UsageError(
                f"{path}: layer {layer.name!r} keeps {layer.kept:g}; allowed: a whole number"
            )
        if layer.contradicts():
            raise UsageError(
                f"{path}: layer {layer.name!r} keeps {layer.kept:.0f} of {layer.count:.0f}, which "
                f"is no sparsity of {layer.sparsity:g}; what counts is kept: change both, or leave "
                "sparsity out"
            )
        kept[layer.name] = int(layer.kept)
    return kept


def target_in(path: str) -> float:
    """Return the sparsity that the allocation is for. Raises `UsageError` if it is none."""
    return _read(path, lambda document: float(document["target"]))


def _read(path: str, of: Callable[[Any], T]) -> T:
    try:
        return of(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not an allocation, as allocation.json of a run is") from error


def read_allocation(path: str, problem: Problem) -> Kept:
    """Read a solution of ``problem``.

    Raises `UsageError` if the file is no allocation, or one for other layers or another sparsity.
    """
    kept = kept_in(path)
    if kept.keys() != problem.limits.keys():
        odd = sorted(kept.keys() ^ problem.limits.keys())
        raise UsageError(f"{path}: layers differ from the model's, first {odd[0]!r}")
    for name, limit in problem.limits.items():
        if not 0 <= kept[name] <= limit:
            raise UsageError(
                f"{path}: layer {name!r} keeps {kept[name]} of {limit} weights that are not zero"
            )
    pattern = problem.masking.pattern
    total, whole = sum(kept.values()), _rounded(problem, kept)
    if not 0 <= problem.total - total < pattern.step:
        amiss = f"{abs(total - problem.total)} too {'many' if total > problem.total else 'few'}"
        raise UsageError(
            f"{path}: keeps {total} weights in all, {amiss}: sparsity {problem.sparsity:g} keeps "
            f"{problem.total} of {sum(problem.counts.values())}; change what layers keep, or give "
            "another --sparsity"
        )
    for name, count in kept.items():
        if whole[name] != count:
            raise UsageError(
                f"{path}: layer {name!r} keeps {count} weights; the pattern {pattern.name} allows "
                f"{whole[name]}"
            )
    return {name: kept[name] for name in problem.limits}


def _rounded(problem: Problem, kept: Kept) -> Kept:
    return problem.masking.rounded(kept, problem.weights, problem.limits)
