"""Which weights of a model a recipe prunes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx_ir as ir

from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.model import find_nonfinite
from onnx_unipts.graph.prunable import (
    PrunableWeight,
    find_prunable,
    matching,
    with_last_resort,
)
from onnx_unipts.patterns import Pattern, parse_pattern
from onnx_unipts.recipe import Recipe

__all__ = ["chosen_weights", "weights_of"]


def chosen_weights(model: ir.Model, path: Path, recipe: Recipe) -> tuple[list[PrunableWeight], str]:
    """Return all weights, and the kind that is pruned for want of others, empty where none is.

    Raises `UnsupportedModelError` where nothing is left to prune, or values are not finite.
    """
    weights, last_resort = with_last_resort(partial(weights_of, model, recipe), recipe.include)
    pruned = [weight.key for weight in weights if weight.pruned]
    if not pruned:
        reasons = sorted({weight.reason for weight in weights if weight.reason})
        why = f" ({'; '.join(reasons[:3])})" if reasons else ""
        raise UnsupportedModelError(
            f"{path}: no prunable weight found{why}; prunable are constant weights of Conv, "
            "ConvTranspose, Gemm and MatMul, see onnx-unipts inspect"
        )
    where = find_nonfinite(model) or find_nonfinite(model, pruned)
    if where is not None:
        raise UnsupportedModelError(
            f"{path}: {where} holds NaN or infinite values; export the model again"
        )
    return weights, last_resort


def weights_of(model: ir.Model, recipe: Recipe, kinds: Sequence[str]) -> list[PrunableWeight]:
    """Return all weights, those pruned that ``recipe`` prunes with these ``kinds`` included.

    Raises `UsageError` for an expression of ``only`` that matches nothing.
    """
    weights = find_prunable(model, recipe.exclude, kinds, recipe.only)
    for expression in recipe.only:
        if not matching(weights, expression):
            raise UsageError(f"only {expression!r} matches no weight; see onnx-unipts inspect")
    pattern = parse_pattern(recipe.pattern)
    return [_objected(weight, pattern) for weight in weights]


def _objected(weight: PrunableWeight, pattern: Pattern) -> PrunableWeight:
    """Leave out what cannot have the pattern."""
    reason = pattern.objection(weight) if weight.pruned else ""
    return replace(weight, pruned=False, reason=reason) if reason else weight
