"""Layers whose sparsity the user prescribes; an allocator shares out the rest of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnx_unipts.allocation.automatic import AUTO
from onnx_unipts.allocation.file import allocate
from onnx_unipts.allocation.halving import Stage
from onnx_unipts.allocation.kept import Kept, Scorer
from onnx_unipts.allocation.problem import ALLOCATORS, Problem, zeros_for
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.prunable import PrunableWeight, matching
from onnx_unipts.patterns import Pattern

__all__ = ["allocate_rest", "check_prescribed", "prescribed_sparsities"]


def prescribed_sparsities(
    weights: Sequence[PrunableWeight], wanted: Mapping[str, float]
) -> dict[str, float]:
    """Return the sparsity by key of the ``weights`` that ``wanted`` names by regular expressions.

    Of several that match, the first one counts. Raises `UsageError` for one that matches no pruned
    weight.
    """
    found: dict[str, float] = {}
    pruned = [weight for weight in weights if weight.pruned]
    for pattern, sparsity in wanted.items():
        matched = matching(pruned, pattern, "layer sparsity")
        if not matched:
            names = ", ".join(weight.key for weight in pruned[:5])
            raise UsageError(
                f"layer sparsity {pattern!r} matches no weight that is pruned; there are {names}"
                f"{', ...' if len(pruned) > 5 else ''}"
            )
        for weight in matched:
            found.setdefault(weight.key, sparsity)
    return found


def check_prescribed(
    method: str,
    pattern: Pattern,
    counts: Mapping[str, int],
    sparsity: float,
    prescribed: Mapping[str, float],
) -> None:
    """Raise `UsageError` where ``prescribed`` layers leave no way to ``sparsity``.

    Or where the allocation or the pattern prescribes the sparsity of every layer itself. ``counts``
    are the numbers of weights by key.
    """
    if not prescribed:
        return
    for what, fixes in (
        (f"allocation {method}", method not in (AUTO, *ALLOCATORS)),
        (f"pattern {pattern.name}", pattern.fixed_sparsity is not None or pattern.whole_model),
    ):
        if fixes:
            raise UsageError(f"{what} gives every layer its sparsity; leave out --layer-sparsity")
    held = {key: counts[key] - zeros_for(s, counts[key]) for key, s in prescribed.items()}
    count = sum(counts.values())
    _require_room(sparsity, count, count - zeros_for(sparsity, count), held, counts)


def allocate_rest(method: str, problem: Problem, prescribed: Mapping[str, float]) -> Kept:
    """Solve ``problem`` by ``method`` with the layers of ``prescribed`` held at their sparsity.

    The total stays that of the problem: the other layers make up for the prescribed ones. Raises
    `UsageError` if they cannot.
    """
    if not prescribed:
        return allocate(method, problem)
    counts, limits = problem.counts, problem.limits
    held = {
        name: _held(problem, name, counts[name] - zeros_for(share, counts[name]))
        for name, share in prescribed.items()
    }
    free = {name: weight for name, weight in problem.weights.items() if name not in held}
    total = problem.total - sum(held.values())
    _require_room(problem.sparsity, sum(counts.values()), problem.total, held, limits)
    if not free:
        return {name: held[name] for name in problem.weights}
    rest = replace(
        problem,
        weights=free,
        sparsity=1 - total / sum(counts[name] for name in free),
        prescribed_total=total,
        score=None if problem.score is None else _beside(problem.score, held),
        stages=[Stage(_beside(stage.score, held), stage.samples) for stage in problem.stages],
    )
    kept = {**allocate(method, rest), **held}
    return {name: kept[name] for name in problem.weights}


def _beside(score: Scorer, held: Kept) -> Scorer:
    """Return what scores the other layers where some are held."""
    return lambda candidates: score([{**kept, **held} for kept in candidates])


def _require_room(
    sparsity: float, count: int, total: int, held: Mapping[str, int], limits: Mapping[str, int]
) -> None:
    """Raise `UsageError` unless ``held`` and the other layers can keep ``total`` weights."""
    least = sum(held.values())
    most = least + sum(limit for name, limit in limits.items() if name not in held)
    if not least <= total <= most:
        raise UsageError(
            f"sparsity {sparsity:g} cannot be met with the layers as prescribed: it would be "
            f"between {1 - most / count:.4f} and {1 - least / count:.4f}; change one of them"
        )


def _held(problem: Problem, name: str, wanted: int) -> int:
    """Return what the layer keeps instead of ``wanted``: what it has, and the pattern allows."""
    limits = {name: problem.limits[name]}
    kept = {name: min(wanted, limits[name])}
    return problem.masking.rounded(kept, {name: problem.weights[name]}, limits)[name]
