"""How many elements of each weight are zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx_unipts.graph.prunable import PrunableWeight

__all__ = ["LayerSparsity", "layer_sparsities"]


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
