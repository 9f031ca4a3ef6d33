"""What every pattern does: scores and a count kept in, a mask out; and finding one by its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.prunable import PrunableWeight
from onnx_unipts.graph.registry import Registry

__all__ = [
    "PATTERNS",
    "Layout",
    "Pattern",
    "keep_largest",
    "parse_pattern",
    "require_free_sparsity",
    "target_sparsity",
]


@dataclass(frozen=True)
class Layout:
    """What the axes of a weight mean; see `PrunableWeight` for the three."""

    out_axis: int | None = None
    in_axis: int | None = None
    in_groups: int = 1

    @classmethod
    def of(cls, weight: PrunableWeight) -> Layout:
        """Return the layout of ``weight``."""
        return cls(weight.out_axis, weight.in_axis, weight.in_groups)


class Pattern(ABC):
    """Which weights of one tensor may be zero together.

    Attributes:
        name: as the user writes it, such as ``2:4``.
        fixed_sparsity: the share of zeros that the pattern itself prescribes; None where any goes.
        step: the largest difference between a count that masks may keep and the next one.
        whole_model: whether masks are a matter of the whole model rather than of each tensor.
        gain: which runtimes gain from it, in a sentence.
        survives_removal: whether a tensor keeps to the pattern when channels are taken out of it.
    """

    name: str
    gain: str = ""
    fixed_sparsity: float | None = None
    step: int = 1
    survives_removal: bool = False
    whole_model: bool = False

    def objection(self, weight: PrunableWeight) -> str:
        """Return why ``weight`` cannot have this pattern, and so stays dense; empty if it can."""
        return ""

    @abstractmethod
    def mask(self, scores: np.ndarray, kept: int, layout: Layout) -> np.ndarray:
        """Return a mask (bool, shape of ``scores``) that keeps what scores highest.

        ``scores`` are floats, the larger the more important. Exactly ``kept`` weights stay where
        the pattern allows that count, else the next smaller count that it allows. The same scores
        give the same mask.
        """

    def limit(self, weight: np.ndarray, layout: Layout) -> int:
        """Return the largest count that can be kept without keeping a zero of ``weight``."""
        return int(np.count_nonzero(weight))

    def counts(self, shape: tuple[int, ...], layout: Layout) -> np.ndarray | None:
        """Return every count (int64, ascending from 0) that masks may keep; None for any."""
        return None

    def pooled(self, scores: np.ndarray, layout: Layout) -> np.ndarray:
        """Return ``scores`` with those of weights that stay or go together made equal."""
        return scores

    @abstractmethod
    def violation(self, tensor: np.ndarray, layout: Layout) -> str:
        """Return how the zeros of ``tensor`` break the pattern; empty where they keep to it."""


# A plugin makes the pattern of a name, or returns None for a name that is another's. It is
# registered under what its names look like.
PATTERNS: Registry[Callable[[str], Pattern | None]] = Registry("pattern", "onnx_unipts.patterns")


def parse_pattern(name: str) -> Pattern:
    """Return the pattern called ``name``. Raises `UsageError` that lists what there is."""
    for parse in PATTERNS.values():
        found = parse(name)
        if found is not None:
            return found
    raise UsageError(f"unknown pattern {name!r}; known: {', '.join(PATTERNS)}")


def target_sparsity(pattern: Pattern, sparsity: float | None) -> float:
    """Return the share of zeros to reach: ``sparsity``, or what ``pattern`` prescribes.

    Raises `UsageError` where there is neither, or where the two contradict each other.
    """
    fixed = pattern.fixed_sparsity
    if fixed is None:
        if sparsity is None:
            raise UsageError("--sparsity is missing; give a share such as --sparsity 0.9")
        return sparsity
    if sparsity is None or abs(sparsity - fixed) < 5e-4:  # 0.667 means two thirds
        return fixed
    raise UsageError(
        f"sparsity {sparsity:g} does not fit the pattern {pattern.name}, which prescribes "
        f"{fixed:.3g}; leave --sparsity out"
    )


def require_free_sparsity(pattern: Pattern, option: str) -> None:
    """Raise `UsageError` where ``pattern`` prescribes the sparsity that ``option`` tries out."""
    if pattern.fixed_sparsity is not None:
        raise UsageError(
            f"the pattern {pattern.name} prescribes the sparsity {pattern.fixed_sparsity:.3g}; "
            f"leave {option} out"
        )


def keep_largest(scores: np.ndarray, kept: int) -> np.ndarray:
    """Return the mask (bool, shape of ``scores``) of the ``kept`` largest scores.

    Of equal scores any may be chosen, always the same ones for the same scores.
    """
    mask = np.ones(scores.shape, dtype=bool)
    removed = scores.size - kept
    if removed > 0:
        smallest = np.argpartition(scores.reshape(-1), removed - 1)[:removed]
        mask.reshape(-1)[smallest] = False
    return mask
