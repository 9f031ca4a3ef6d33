"""Which sparsities there are to choose from, and between which the trials of a goal stay."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_unipts.allocation.file import check_method, is_allocator
from onnx_unipts.allocation.prescribed import prescribed_sparsities
from onnx_unipts.allocation.problem import zeros_for
from onnx_unipts.chosen_weights import chosen_weights
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import load_model
from onnx_unipts.patterns import parse_pattern, require_free_sparsity
from onnx_unipts.recipe import Recipe, load_recipe

__all__ = ["HIGHEST_SPARSITY", "LOWEST_SPARSITY", "Bounds", "bounds_of", "free_recipe"]

LOWEST_SPARSITY = 0.01
HIGHEST_SPARSITY = 0.995
# Bounds are rounded inwards to one part of these, as far as trials are told apart.
PARTS = 1000


@dataclass(frozen=True)
class Bounds:
    """The lowest and the highest sparsity that is tried; ``prescribed`` where layers say so."""

    lowest: float = LOWEST_SPARSITY
    highest: float = HIGHEST_SPARSITY
    prescribed: bool = False

    def first(self, sparsity: float) -> float:
        """Return ``sparsity``, or what comes next to it where layers are prescribed.

        Elsewhere a search may start beyond its bounds.
        """
        return self.within(sparsity) if self.prescribed else sparsity

    def within(self, sparsity: float) -> float:
        """Return ``sparsity``, or the bound that it lies beyond."""
        return min(max(sparsity, self.lowest), self.highest)


def free_recipe(
    option: str,
    recipe: str | os.PathLike[str] | Recipe = "unipts",
    settings: Mapping[str, Any] | None = None,
    **_: Any,
) -> Recipe:
    """Return the recipe that a call of `compress` with these arguments follows.

    Raises `UsageError` where it prescribes the sparsity that ``option`` tries out.
    """
    found = load_recipe(recipe).with_settings(settings or {})
    require_free_sparsity(parse_pattern(found.pattern), option)
    method = found.allocation.method
    check_method(method)
    if not is_allocator(method):
        raise UsageError(
            f"the allocation {method} is for one sparsity; leave {option} out, or name an allocator"
        )
    return found


def bounds_of(path: Path, recipe: Recipe) -> Bounds:
    """Return the bounds for the model file ``path`` with the layers as ``recipe`` prescribes them.

    Raises `UsageError` where these leave no choice, or match no weight, `UnsupportedModelError` for
    the model.
    """
    if not recipe.layer_sparsity:
        return Bounds()
    weights, _ = chosen_weights(load_model(path), path, recipe)
    counts = {weight.key: weight.count for weight in weights if weight.pruned}
    held = prescribed_sparsities(weights, recipe.layer_sparsity)
    zeros = sum(zeros_for(share, counts[key]) for key, share in held.items())
    free = sum(count for key, count in counts.items() if key not in held)
    total = sum(counts.values())
    lowest = math.ceil(zeros / total * PARTS) / PARTS
    highest = math.floor((zeros + free) / total * PARTS) / PARTS
    if lowest >= highest:
        raise UsageError(
            f"the layers as prescribed make the sparsity {zeros / total:.4f}, and leave none to "
            "search; give --sparsity instead of --target, or change --layer-sparsity"
        )
    return Bounds(max(lowest, LOWEST_SPARSITY), min(highest, HIGHEST_SPARSITY), prescribed=True)
