"""An allocation: how many weights each layer keeps, and what scores several of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["Kept", "Scorer"]

Kept = dict[str, int]
Scorer = Callable[[Sequence[Kept]], list[float]]
