"""Which sparsities there are to choose from, and between which the trials of a goal stay."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from onnx_unipts.allocation.file import check_method, is_allocator
from onnx_unipts.allocation.prescribed import prescribed_sparsities
from onnx_unipts.allocation.problem import zeros_for
from onnx_unipts.channels.allocation import fewest_left
from onnx_unipts.channels.groups import find_channels
from onnx_unipts.chosen_weights import chosen_weights
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import load_model
from onnx_unipts.graph.prunable import PrunableWeight
from onnx_unipts.patterns import parse_pattern, require_free_sparsity
from onnx_unipts.recipe import Recipe, load_recipe

__all__ = ["HIGHEST_SPARSITY", "LOWEST_SPARSITY", "Bounds", "bounds_of", "free_recipe"]

LOWEST_SPARSITY = 0.01
HIGHEST_SPARSITY = 0.995
# Bounds are rounded inwards to one part of these, as far as trials are told apart.
PARTS = 1000


@dataclass(frozen=True)
class Bounds:
    """The lowest and the highest sparsity that is tried, and the reason where there is no other."""

    lowest: float = LOWEST_SPARSITY
    highest: float = HIGHEST_SPARSITY
    reason: str = ""

    def first(self, sparsity: float) -> float:
        """Return ``sparsity``, or what comes next to it where there is no other.

        Elsewhere a search may start beyond its bounds.
        """
        return self.within(sparsity) if self.reason else sparsity

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
    """Return the bounds for the model file ``path``: what ``recipe`` leaves to choose from.

    Raises `UsageError` where the layers that it prescribes leave no choice, or match no weight,
    `UnsupportedModelError` for the model.
    """
    by_channels = parse_pattern(recipe.pattern).whole_model
    if not by_channels and not recipe.layer_sparsity:
        return Bounds()
    model = load_model(path)
    weights, _ = chosen_weights(model, path, recipe)
    return _of_channels(model, weights) if by_channels else _beside_prescribed(weights, recipe)


def _of_channels(model: ir.Model, weights: Sequence[PrunableWeight]) -> Bounds:
    """Return the bounds where every space of channels keeps as few as it can, at least."""
    highest = math.floor((1 - fewest_left(find_channels(model, weights))) * PARTS) / PARTS
    return Bounds(highest=min(highest, HIGHEST_SPARSITY), reason="that removing channels reaches")


def _beside_prescribed(weights: Sequence[PrunableWeight], recipe: Recipe) -> Bounds:
    """Return the bounds where some layers are held at the sparsity that is prescribed."""
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
    reason = "with the layers as prescribed"
    return Bounds(max(lowest, LOWEST_SPARSITY), min(highest, HIGHEST_SPARSITY), reason)
