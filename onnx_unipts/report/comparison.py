"""Several finished runs side by side: the document, and its page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_unipts.json_text import plain
from onnx_unipts.leaves import leaves_of
from onnx_unipts.report.html import render
from onnx_unipts.report.plots import Line, Plot, line_plot, smoothed
from onnx_unipts.report.runs import read_report

__all__ = ["compare_runs", "comparison_document", "comparison_page"]

SERIES = 6
# Of a recipe, what names it rather than changes the result.
NAMING = ("name", "description")


def compare_runs(run_dirs: Sequence[str | os.PathLike[str]]) -> dict[str, Any]:
    """Return the comparison of the runs in ``run_dirs``, in that order.

    Raises `UsageError` if one of them holds no finished run.
    """
    reports = [read_report(path) for path in run_dirs]
    return comparison_document(dict(zip(_names(run_dirs), reports, strict=True)))


def comparison_document(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what ``compare`` prints as JSON, of ``report.json`` documents by name.

    ``runs`` hold the numbers of each run, ``settings`` those of the recipes that differ, as a list
    by run; ``layers`` the sparsity of every weight as such a list, None where a run has it not.
    """
    return plain(
        {
            "runs": [_run(name, report) for name, report in reports.items()],
            "settings": _differences([report["recipe"] for report in reports.values()]),
            "layers": _layers(list(reports.values())),
            "loss": [
                (report.get("training") or {}).get("loss") or [] for report in reports.values()
            ],
        }
    )


def comparison_page(comparison: Mapping[str, Any], title: str = "Runs side by side") -> str:
    """Return the page of a `comparison_document`."""
    runs = comparison["runs"]
    return render(
        "comparison.html.j2",
        title=title,
        runs=runs,
        best=_best(runs),
        settings=comparison["settings"],
        layers=comparison["layers"],
        quality=_quality_plot(runs),
        losses=_loss_plot(runs, comparison["loss"]),
    )


def _names(run_dirs: Sequence[str | os.PathLike[str]]) -> list[str]:
    paths = [Path(os.path.abspath(path)) for path in run_dirs]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = [os.path.join(*path.parts[-parts:]).removesuffix(".run") for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{i}: {path}" for i, path in enumerate(paths, 1)]


def _run(name: str, report: Mapping[str, Any]) -> dict[str, Any]:
    accuracy, fidelity = report.get("accuracy") or {}, report.get("fidelity") or {}
    after, output = fidelity.get("after_recovery") or {}, report.get("output") or {}
    return {
        "name": name,
        "model": report["model"]["path"],
        "output": output.get("path"),
        "recipe": report["recipe"].get("name"),
        "sparsity": report["sparsity"]["achieved"],
        "accuracy_dense": accuracy.get("dense"),
        "accuracy_before_recovery": accuracy.get("before_recovery"),
        "accuracy": accuracy.get("after_recovery"),
        "accuracy_interval": (accuracy.get("interval") or {}).get("after_recovery"),
        "agreement": after.get("agreement"),
        "divergence": after.get("divergence"),
        "bytes": output.get("bytes"),
        "bytes_zipped": output.get("bytes_zipped"),
        "bytes_zipped_dense": report["model"].get("bytes_zipped"),
        "total_seconds": (report.get("time") or {}).get("total_seconds"),
        "command": report["command"],
    }


def _differences(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    flat = [dict(leaves_of(recipe)) for recipe in recipes]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    values = {key: [settings.get(key) for settings in flat] for key in keys}
    return {
        key: row
        for key, row in values.items()
        if key not in NAMING and any(value != row[0] for value in row)
    }


def _layers(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = [
        {layer["name"]: layer["sparsity"] for layer in report["sparsity"]["per_layer"]}
        for report in reports
    ]
    names = dict.fromkeys(name for layers in found for name in layers)
    return [{"name": n, "sparsity": [layers.get(n) for layers in found]} for n in names]


def _best(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the best value of every measure that more than one run has."""
    choose = {
        "sparsity": max, "accuracy": max, "agreement": max, "divergence": min, "bytes_zipped": min,
    }  # fmt: skip
    best = {}
    for key, better in choose.items():
        values = [run[key] for run in runs if run[key] is not None]
        best[key] = better(values) if len(set(values)) > 1 else None
    return best


def _quality_plot(runs: Sequence[Mapping[str, Any]]) -> Plot | None:
    """Accuracy and agreement by sparsity, where runs differ in it."""
    if len({run["sparsity"] for run in runs}) < 2:
        return None
    ordered = sorted(runs, key=lambda run: run["sparsity"])
    measures = {
        "accuracy_dense": ("accuracy, dense", "dense", False),
        "accuracy": ("accuracy", "1", True),
        "accuracy_before_recovery": ("accuracy before recovery", "before", True),
        "agreement": ("agreement with dense", "2", True),
    }
    lines = []
    for key, (name, style, dots) in measures.items():
        shown = [run for run in ordered if run[key] is not None]
        if shown:
            points = [(100 * run["sparsity"], run[key]) for run in shown]
            titles = [f"{run['name']}: {100 * run[key]:.2f} %" for run in shown]
            lines.append(Line(name, points, style, dots=dots, titles=titles))
    return line_plot(lines, "sparsity, percent", "share of samples", percent=True)


def _loss_plot(
    runs: Sequence[Mapping[str, Any]], losses: Sequence[Sequence[float | None]]
) -> Plot | None:
    lines = [
        Line(run["name"], smoothed(loss)[1], str(i % SERIES + 1))
        for i, (run, loss) in enumerate(zip(runs, losses, strict=True))
    ]
    return line_plot(
        [line for line in lines if line.points], "step", "loss, running mean", logarithmic=True
    )
