"""The search for a goal: trials at several sparsities, of which the best is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_unipts.api import Result, compress, write_recipe
from onnx_unipts.approach import SIZE_MARGIN, corrected_sparsity, next_density, next_sparsity
from onnx_unipts.arguments import ModelPath, check_kinds, model_file
from onnx_unipts.bounds import Bounds, bounds_of, free_recipe
from onnx_unipts.calibration import rereadable
from onnx_unipts.call_text import call_text
from onnx_unipts.export import default_output, default_run_directory, required_operators
from onnx_unipts.external_data import data_files
from onnx_unipts.goal import Goal, parse_goal, require_class_scores
from onnx_unipts.graph.errors import TargetMissedError, UsageError
from onnx_unipts.graph.model import load_model, save_model
from onnx_unipts.output_file import (
    atomic_path,
    check_apart,
    check_output_directory,
    check_output_file,
    trial_of,
)
from onnx_unipts.patterns import parse_pattern
from onnx_unipts.progress import Once, Progress, Quiet
from onnx_unipts.recipe import Recipe
from onnx_unipts.report.files import describe_file
from onnx_unipts.report.runs import copy_report, write_report_page
from onnx_unipts.run_directory import RunDirectory
from onnx_unipts.run_files import FIGURES, REPORT
from onnx_unipts.targets import choose_targets

__all__ = ["compress_to"]

DROP_TRIALS = 8
FIRST_SPARSITY = 0.9
SIZE_ESTIMATES = 6
SIZE_TRIALS = 3
FINEST_STEP = 0.001
TRAINED_ON = (
    "the drop is measured on the calibration data, on which the model was trained; on other data "
    "it is larger: give some of it as --eval-data"
)


def compress_to(
    model: ModelPath,
    target: str | Goal,
    *,
    output: ModelPath | None = None,
    run_dir: ModelPath | None = None,
    report: ModelPath | None = None,
    command: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Compress ``model`` to what ``target`` asks for: ``size=2MB``, ``zipped=2MB`` or ``drop=1%``.

    For a drop, the highest sparsity that keeps accuracy (or agreement, without labels) within it
    is searched, each trial a whole compression in ``<run_dir>/trials``; for a size,
    the lowest sparsity that makes the file as small. The best trial becomes ``output``, and its
    report the run's, with a further key ``goal``: ``kind``, ``limit``, ``sparsity``, ``reached``
    and all ``trials``. With ``resume`` finished trials are taken over.

    The further arguments are those of `onnx_unipts.compress`; the recipe that is saved is that of
    the best trial. Raises `TargetMissedError` if no trial reaches the target.
    """
    command = command or call_text(compress_to, locals())
    check_kinds({**locals(), **options})
    if not isinstance(target, str | Goal):
        raise UsageError(f"target is {target!r}; allowed: text such as drop=1% or size=2MB")
    goal = parse_goal(target) if isinstance(target, str) else target
    recipe = free_recipe("the target", **options)
    if goal.kind == "size" and not _can_shrink(recipe, options):
        raise UsageError(
            "target size: the format dense stores zeros, so that its files keep their size; give "
            "another --format, or --target zipped=..."
        )
    save_recipe = options.pop("save_recipe", None)
    options |= {key: rereadable(options.get(key)) for key in ("data", "eval_data")}
    if options.pop("dry_run", False):
        raise UsageError("--dry-run shows one sparsity; give --sparsity instead of --target")
    model = model_file(model)
    progress = Once(progress or Quiet())
    output = Path(output) if output is not None else default_output(model, options.get("format"))
    check_output_file(output, "--output", model)
    if save_recipe is not None:
        check_output_file(save_recipe, "--save-recipe", model)
    if report is not None:
        check_output_directory(report, "report")
    directory = Path(run_dir) if run_dir is not None else default_run_directory(output)
    check_apart(
        {"output": output, "recipe to save": save_recipe, "run directory": directory},
        {"data": options.get("data"), "evaluation data": options.get("eval_data")},
    )
    # Before the run directory is cleared: what is wrong with model, data or settings shows here.
    bounds = bounds_of(Path(model), recipe)
    options["sparsity"] = bounds.first(options.get("sparsity") or FIRST_SPARSITY)
    planned = {**options, "run_dir": directory, "dry_run": True}
    compress(model, output=output, command=command, progress=Quiet(), **planned)
    if goal.kind == "drop":
        require_class_scores(choose_targets(load_model(model), recipe.training.losses))
    warnings = []
    if goal.kind == "drop" and options.get("eval_data") is None:
        warnings = [TRAINED_ON]
        progress.warning(TRAINED_ON)
    began = time.monotonic()
    resume = bool(options.get("resume"))
    with RunDirectory.open(directory, {"goal": [goal.kind, goal.limit]}, resume=resume):
        (directory / "trials").mkdir(exist_ok=True)
        search = _Search(model, goal, bounds, directory / "trials", command, progress, options)
        search.run()
    best = search.best()
    written = search.result(best)
    _write_model(written, output, goal)
    document = search.document(best, output, warnings, time.monotonic() - began)
    with RunDirectory.open(directory, {"goal": [goal.kind, goal.limit]}, resume=True) as run:
        run.write_json(REPORT, document)
        _copy(written.run_dir / FIGURES, directory / FIGURES)
        write_report_page(directory)
    if save_recipe is not None:
        write_recipe(Recipe.model_validate(document["recipe"]), save_recipe)
    if report is not None:
        copy_report(directory, report)
    progress.message(
        f"sparsity {best:g}: {goal.shown(document['goal']['reached'])} for a {goal}, "
        f"after {len(search.trials)} trial{'s'[: len(search.trials) > 1]}"
    )
    return Result(document, output, directory)


class _Search:
    """The trials of one goal."""

    def __init__(
        self,
        model: ModelPath,
        goal: Goal,
        bounds: Bounds,
        directory: Path,
        command: str,
        progress: Progress,
        options: Mapping[str, Any],
    ) -> None:
        self._model = model
        self._goal = goal
        self._bounds = bounds
        self._directory = directory
        self._command = command
        self._progress = progress
        self._options = dict(options)
        self._first = self._options.pop("sparsity")
        self._results: dict[float, Result] = {}
        self.trials: list[dict[str, float]] = []

    def run(self) -> None:
        """Make the trials."""
        if self._goal.kind == "drop":
            self._approach_drop()
        else:
            self._approach_size()

    def best(self) -> float:
        """Return the best sparsity that reaches the goal. Raises `TargetMissedError`."""
        reached = [t["sparsity"] for t in self.trials if self._goal.reached_by(t["measured"])]
        if not reached:
            nearest = min(self.trials, key=lambda trial: trial["measured"])
            remedy = (
                "train longer (--epochs), give more data, or allow a larger drop"
                if self._goal.kind == "drop"
                else "allow a larger file, or give another --format"
            )
            remedy += self._bound_at(nearest["sparsity"])
            raise TargetMissedError(
                f"target {self._goal}: missed; at sparsity {nearest['sparsity']:g} it is "
                f"{self._goal.shown(nearest['measured'])}; {remedy}"
            )
        return max(reached) if self._goal.kind == "drop" else min(reached)

    def _bound_at(self, sparsity: float) -> str:
        """Say that a search could not go on from ``sparsity``, if it could not."""
        bounds, dropping = self._bounds, self._goal.kind == "drop"
        if bounds.reason and sparsity == (bounds.lowest if dropping else bounds.highest):
            return f"; {sparsity:g} is the {'lowest' if dropping else 'highest'} {bounds.reason}"
        if not dropping and sparsity >= bounds.highest:
            return f"; {bounds.highest:g} is the highest that is tried, --sparsity takes more"
        return ""

    def result(self, sparsity: float) -> Result:
        """Return the result of the trial at ``sparsity``."""
        return self._results[sparsity]

    def document(
        self, sparsity: float, output: Path, warnings: Sequence[str], seconds: float
    ) -> dict[str, Any]:
        """Return the report of the search, whose best trial, at ``sparsity``, became ``output``."""
        report = self._results[sparsity].report
        tried = sum(each.report["time"]["total_seconds"] for each in self._results.values())
        took = max(seconds, tried)  # that of trials made before a resume, too
        document = {
            **report,
            "output": describe_file(output, data_files(output)),
            "warnings": [*report["warnings"], *warnings],
            "time": {**report["time"], "total_seconds": took},
        }
        goal = {
            "kind": self._goal.kind,
            "limit": self._goal.limit,
            "sparsity": sparsity,
            "reached": self._goal.measure(document),
            "trials": self.trials,
        }
        return {**document, "goal": goal}

    def _approach_drop(self) -> None:
        """Find the lowest density that keeps the drop, up to a factor of `CLOSE_DENSITIES`."""
        density: float | None = 1 - self._first
        for _ in range(DROP_TRIALS):
            if density is None:
                break
            self._trial(round(1 - density, 4))
            drops = {1 - trial["sparsity"]: trial["measured"] for trial in self.trials}
            density = next_density(drops, self._goal, self._bounds)

    def _approach_size(self) -> None:
        """Find the lowest sparsity that makes the file small enough, from an estimate on."""
        sizes: dict[float, float] = {}
        sparsity: float | None = self._estimated()
        for _ in range(SIZE_TRIALS):
            if sparsity is None:
                break
            sizes[sparsity] = self._trial(sparsity)
            sparsity = corrected_sparsity(sizes, self._goal, self._bounds)

    def _estimated(self) -> float:
        """Return the sparsity that runs without training find for a size."""
        limit = self._goal.limit * (1 - SIZE_MARGIN)
        known: dict[float, float] = {}
        sparsity = self._first
        for _ in range(SIZE_ESTIMATES):
            known[sparsity] = self._estimate(sparsity)
            self._progress.message(
                f"sparsity {sparsity:g} would be {self._goal.shown(known[sparsity])}"
            )
            following = next_sparsity(known, limit, self._bounds)
            while known.get(following, limit) > limit:
                following = round(following + FINEST_STEP, 3)
            if following in known or following > self._bounds.highest:
                break
            sparsity = following
        return min((s for s, size in known.items() if size <= limit), default=sparsity)

    def _trial(self, sparsity: float) -> float:
        self._progress.message(f"trial {len(self.trials) + 1}: sparsity {sparsity:g}")
        prepared = next(iter(self._results.values()), None)
        options = {**self._options, "prepared_by": None if prepared is None else prepared.run_dir}
        result = self._compress(sparsity, f"{sparsity:g}", options)
        measured = self._goal.measure(result.report)
        self._results[sparsity] = result
        self.trials.append({"sparsity": sparsity, "measured": measured})
        self._progress.message(
            f"trial {len(self.trials)}: sparsity {sparsity:g}: {self._goal.shown(measured)}"
        )
        return measured

    def _estimate(self, sparsity: float) -> float:
        settings = {
            **(self._options.get("settings") or {}),
            "training.epochs": 0,
            "allocation.method": "lamp",
        }
        options = {**self._options, "settings": settings, "resume": False}
        result = self._compress(sparsity, "estimate", {**options, "progress": Quiet()})
        return self._goal.measure(result.report)

    def _compress(self, sparsity: float, name: str, options: Mapping[str, Any]) -> Result:
        return compress(
            self._model,
            sparsity=sparsity,
            output=self._directory / f"{name}{default_output(name, options.get('format')).suffix}",
            run_dir=self._directory / f"{name}.run",
            command=self._command,
            **{"progress": self._progress, **options},
        )


def _can_shrink(recipe: Recipe, options: Mapping[str, Any]) -> bool:
    """Whether a file takes less space for zeros, for channels that go, or for integers."""
    cut = recipe.eliminate_dead_channels or parse_pattern(recipe.pattern).whole_model
    return bool(cut) or options.get("format") != "dense" or options.get("quantize") is not None


def _write_model(trial: Result, output: Path, goal: Goal) -> None:
    """Make the model of ``trial`` the ``output``. Raises `TargetMissedError` as it is checked."""
    assert trial.output is not None
    _check_renamed(trial.output, output, goal)
    _copy_model(trial.output, output)


def _check_renamed(source: Path, output: Path, goal: Goal) -> None:
    """Raise `TargetMissedError` where the model ``source`` is too large by the name ``output``.

    Every tensor in a data file holds that file's name.
    """
    if goal.kind == "drop" or not data_files(source):
        return
    with trial_of(output) as trial:
        _copy_model(source, trial)
        size = goal.measure({"output": describe_file(trial, data_files(trial))})
    if not goal.reached_by(size):
        raise TargetMissedError(
            f"target {goal}: missed by {size - goal.limit:g} bytes, as tensors hold the name of "
            f"their data file; give a shorter name than {output.name}, or allow a larger file"
        )


def _copy_model(source: Path, output: Path) -> None:
    if data_files(source):
        save_model(load_model(source, unpacked=False), output)
    else:
        _copy(source, output)
    config = required_operators(source)
    if config.is_file():
        _copy(config, required_operators(output))


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
