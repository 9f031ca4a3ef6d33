"""A sweep: compressions of one model at several sparsities, put side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_unipts.api import Result, compress, write_recipe
from onnx_unipts.arguments import ModelPath, check_kinds, model_file
from onnx_unipts.bounds import free_recipe
from onnx_unipts.calibration import rereadable
from onnx_unipts.call_text import call_text
from onnx_unipts.export import default_output, model_stem
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.output_file import check_apart, check_output_file
from onnx_unipts.progress import Once, Progress, Quiet
from onnx_unipts.recipe import Recipe
from onnx_unipts.report.comparison import comparison_document, comparison_page
from onnx_unipts.report.runs import write_page

__all__ = ["Sweep", "sweep"]


@dataclass(frozen=True)
class Sweep:
    """Compressions at several sparsities: their results, what they compare to, and its page."""

    results: list[Result]
    comparison: dict[str, Any]
    page: Path


def sweep(
    model: ModelPath,
    sparsities: Iterable[float],
    *,
    output: ModelPath | None = None,
    run_dir: ModelPath | None = None,
    report: ModelPath | None = None,
    command: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Sweep:
    """Compress ``model`` at every one of ``sparsities`` and put the runs side by side.

    The further arguments are those of `onnx_unipts.compress`. The files go by the name of
    ``output`` with the sparsity behind its stem, as in ``model.sparse-0.9.onnx``, those in
    ``report`` go to a directory for each sparsity, and the comparison is
    ``<output stem>.sweep.html``; a dry run writes none. The recipe that is saved is that of all of
    them, without a sparsity. Raises `UsageError` for what is no list of
    different sparsities.
    """
    command = command or call_text(sweep, locals())
    check_kinds({**locals(), **options})
    sparsities = _checked(sparsities)
    free_recipe("the sweep", **options)
    save_recipe = options.pop("save_recipe", None)
    options |= {key: rereadable(options.get(key)) for key in ("data", "eval_data")}
    model = model_file(model)
    progress = Once(progress or Quiet())
    output = default_output(model, options.get("format")) if output is None else Path(output)
    if save_recipe is not None:
        check_output_file(save_recipe, "--save-recipe", model)
    stem = model_stem(output)
    page = output.with_name(f"{stem}.sweep.html")
    check_output_file(page, "the page of the sweep")
    check_apart(
        {"page of the sweep": page, "recipe to save": save_recipe},
        {"data": options.get("data"), "evaluation data": options.get("eval_data")},
    )
    runs: list[dict[str, Any]] = [
        {
            "sparsity": sparsity,
            "output": output.with_name(f"{stem}-{sparsity:g}{output.name[len(stem) :]}"),
            "run_dir": None if run_dir is None else Path(run_dir) / f"{sparsity:g}.run",
            "report": None if report is None else Path(report) / f"{sparsity:g}",
        }
        for sparsity in sparsities
    ]
    if not options.get("dry_run"):
        # Before the first is trained: what is wrong with another one shows here.
        for run in runs[1:]:
            compress(model, command=command, **{**options, **run, "dry_run": True})
    results: list[Result] = []
    for number, run in enumerate(runs, 1):
        progress.message(f"sparsity {run['sparsity']:g}, {number} of {len(runs)}")
        result = compress(
            model, command=command, progress=progress,
            prepared_by=results[0].run_dir if results else None, **run, **options,
        )  # fmt: skip
        results.append(result)
    if save_recipe is not None:
        recipe = Recipe.model_validate({**results[0].report["recipe"], "sparsity": None})
        write_recipe(recipe, save_recipe)
    reports = {f"{s:g}": r.report for s, r in zip(sparsities, results, strict=True)}
    comparison = comparison_document(reports)
    if not options.get("dry_run"):
        write_page(page, comparison_page(comparison, f"{Path(model).name}: sparsity swept"))
    return Sweep(results, comparison, page)


def _checked(given: Iterable[float]) -> list[float]:
    try:
        sparsities = [float(sparsity) for sparsity in given]
    except (TypeError, ValueError):
        sparsities = []
    if not sparsities or not all(0 < sparsity < 1 for sparsity in sparsities):
        raise UsageError("a sweep needs shares between 0 and 1, as in --sweep 0.5,0.7,0.9")
    if len({f"{sparsity:g}" for sparsity in sparsities}) < len(sparsities):
        raise UsageError("a sweep needs sparsities that all differ")
    return sparsities
