"""Training at the sparsity of each layer that a search found: a compression without its search."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from onnx_unipts.allocation.file import target_in
from onnx_unipts.api import Result, compress
from onnx_unipts.arguments import ModelPath, check_kinds, model_file
from onnx_unipts.export import default_output, default_run_directory
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.patterns import Pattern, parse_pattern
from onnx_unipts.recipe import Recipe, load_recipe
from onnx_unipts.run_files import ALLOCATION

__all__ = ["finetune"]


def finetune(
    model: ModelPath,
    *,
    allocation: ModelPath | None = None,
    output: ModelPath | None = None,
    recipe: str | os.PathLike[str] | Recipe = "unipts",
    run_dir: ModelPath | None = None,
    **options: Any,
) -> Result:
    """Train ``model`` at the sparsity of each layer in the file ``allocation``, and write it.

    That is ``allocation.json`` of a run, by default of the run directory that `search` wrote to;
    the sparsity is the one that it was found for. The further arguments are those of
    `onnx_unipts.compress`. Raises `UsageError` where there is no allocation.
    """
    check_kinds(locals())
    model = model_file(model)
    output = default_output(model, options.get("format")) if output is None else Path(output)
    directory = default_run_directory(output) if run_dir is None else Path(run_dir)
    file = directory / ALLOCATION if allocation is None else Path(allocation)
    if not file.is_file():
        raise UsageError(
            f"{file}: no such file; search first, or name the allocation.json of a run as the "
            "allocation"
        )
    chosen, settings = load_recipe(recipe), options.pop("settings", None) or {}
    if options.get("sparsity") is None and chosen.sparsity is None:
        pattern = parse_pattern(chosen.with_settings(settings).pattern)
        options["sparsity"] = _target_of(file, pattern)
    settings = {**settings, "allocation.method": str(file)}
    return compress(
        model, output=output, recipe=chosen, run_dir=directory, settings=settings, **options
    )


def _target_of(file: Path, pattern: Pattern) -> float:
    """Return the sparsity that the allocation is for. Raises `UsageError` if ``pattern`` is not."""
    target, fixed = target_in(str(file)), pattern.fixed_sparsity
    if fixed is not None and not math.isclose(target, fixed):
        raise UsageError(
            f"{file}: an allocation for sparsity {target:g}; the pattern {pattern.name} has "
            f"{fixed:g}: give one that was found with it, or leave the pattern out"
        )
    return target
