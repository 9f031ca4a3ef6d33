"""Weights by name: regular expressions over their keys and the names of their nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.prunable.weight import PrunableWeight

__all__ = ["Exclusion", "matching"]


class Exclusion:
    """What is left out by name: what one of ``exclude`` matches or, given any, none of ``only``.

    Raises `UsageError` for an invalid regular expression.
    """

    def __init__(self, exclude: Sequence[str], only: Sequence[str]) -> None:
        self._exclude = [_compile(pattern) for pattern in exclude]
        self._only = [_compile(pattern, "only") for pattern in only]

    def applied(self, weight: PrunableWeight) -> PrunableWeight:
        """Return ``weight``, not pruned, with the reason, where it is left out."""
        if not weight.pruned:
            return weight
        for pattern in self._exclude:
            if _matches(weight, pattern):
                return replace(weight, pruned=False, reason=f"excluded by {pattern.pattern!r}")
        if self._only and not any(_matches(weight, pattern) for pattern in self._only):
            return replace(weight, pruned=False, reason="not among those asked for alone")
        return weight


def matching(
    weights: Sequence[PrunableWeight], pattern: str, what: str = "pattern"
) -> list[PrunableWeight]:
    """Return those of ``weights`` in whose key or node names ``pattern`` is found.

    Raises `UsageError`, beginning with ``what``, for an invalid regular expression.
    """
    compiled = _compile(pattern, what)
    return [weight for weight in weights if _matches(weight, compiled)]


def _compile(pattern: str, what: str = "exclude") -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{what} {pattern!r}: not a regular expression: {error}") from error


def _matches(weight: PrunableWeight, pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(text) for text in (weight.key, *weight.nodes))
