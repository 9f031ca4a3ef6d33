"""``report.html``: one file that opens offline, made from a run's ``report.json``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import jinja2

from onnx_unipts.report.plots import Line, histogram_path, line_plot, smoothed
from onnx_unipts.report.text import (
    dead_channels_text,
    goal_text,
    latency_note,
    measured_text,
    number,
    percent,
    seconds_text,
    shape_text,
    size_text,
    time_text,
)
from onnx_unipts.yaml_text import write_yaml

__all__ = ["render", "report_page", "result_fragment"]

Document = Mapping[str, Any]

STAGES = {
    "dense": "dense",
    "before_recovery": "before recovery",
    "before_quantization": "before quantisation",
    "after_recovery": "sparse",
}
LATENCIES = {"dense": "dense_ms", "sparse": "sparse_ms"}
STYLES = {
    "dense": "dense",
    "before_recovery": "before",
    "before_quantization": "after",
    "after_recovery": "after",
}


def report_page(report: Document, figures: Document | None = None) -> str:
    """Return the page of a ``report.json`` document, and of its ``figures.json`` if there is one.

    Nothing in it is loaded from elsewhere, and it needs no script. What a document does not hold is
    left out of the page.
    """
    figures = figures or {}
    return render(
        "report.html.j2",
        title=PurePath(report["model"]["path"]).name,
        report=report,
        tiles=_tiles(report),
        measures=[m for m in (_measure(report, "accuracy"), _measure(report, "agreement")) if m],
        divergence=_divergence(report),
        layers=_layers(report["sparsity"]),
        search=_search_plot(report),
        training=_training_plot(report),
        course=_course_plot(report),
        histograms=_histograms(figures),
        samples=figures.get("samples") or [],
        stages=STAGES,
        styles=STYLES,
        files=_files(report),
        latency=_latency(report),
        trials=_trials(report.get("goal")),
        facts=_facts(report),
        recipe=write_yaml(dict(report["recipe"])),
    )


def result_fragment(report: Document, page: PurePath | None) -> str:
    """Return the summary that a notebook shows; ``page`` is where the whole page is."""
    layers = report["sparsity"]["per_layer"]
    return render("result.html.j2", report=report, tiles=_tiles(report), layers=layers, page=page)


def render(template: str, **values: Any) -> str:
    """Return the page that ``template`` makes of ``values``."""
    return _environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onnx_unipts.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "size": size_text,
        "shape": shape_text,
        "seconds": seconds_text,
        "share": lambda value: f"{100 * value:.2f}".rstrip("0").rstrip("."),
    }
    return environment


def _tiles(report: Document) -> list[dict[str, str]]:
    """Return the numbers that a reader looks for first."""
    sparsity = report["sparsity"]
    zeros = f"{sparsity['zeros']:,} of {sparsity['weights']:,} weights are zero"
    tiles = [_tile("sparsity", percent(sparsity["achieved"]), zeros)]
    accuracy = report.get("accuracy") or {}
    if "after_recovery" in accuracy:
        tiles.append(_accuracy_tile(accuracy["dense"], accuracy["after_recovery"]))
    after = (report.get("fidelity") or {}).get("after_recovery") or {}
    if after.get("agreement") is not None:
        same = "same answer as the dense model"
        tiles.append(_tile("agreement", percent(after["agreement"]), same))
    elif after:
        apart = "from the dense model's outputs"
        tiles.append(_tile("divergence", number(after["divergence"]), apart))
    if output := report.get("output"):
        dense, sparse = report["model"]["bytes_zipped"], output["bytes_zipped"]
        smaller = f"dense {size_text(dense)}, {dense / sparse:.1f} times smaller"
        tiles.append(_tile("size, zipped", size_text(sparse), smaller))
    return tiles


def _tile(title: str, value: str, note: str) -> dict[str, str]:
    return {"title": title, "value": value, "note": note}


def _accuracy_tile(dense: float, sparse: float) -> dict[str, str]:
    drop = 100 * (dense - sparse)
    change = f"{abs(drop):.2f} points {'lost' if drop > 0 else 'gained'}"
    change = change if abs(drop) > 5e-3 else "nothing lost"
    return _tile("accuracy", percent(sparse), f"dense {percent(dense)}, {change}")


def _measure(report: Document, kind: str) -> dict[str, Any] | None:
    """Return the bars of accuracy or agreement by stage, with their intervals."""
    if kind == "accuracy":
        values = dict(report.get("accuracy") or {})
        intervals = values.get("interval") or {}
        samples = values.get("samples")
    else:
        stages = report.get("fidelity") or {}
        intervals = stages.get("interval") or {}
        found = {s: m for s, m in stages.items() if isinstance(m, Mapping) and "agreement" in m}
        values = {s: m["agreement"] for s, m in found.items()}
        samples = next((m["samples"] for m in found.values()), None)
    bars = [
        {
            "name": name,
            "style": STYLES[stage],
            "value": values[stage],
            "low": (intervals.get(stage) or (values[stage],) * 2)[0],
            "high": (intervals.get(stage) or (values[stage],) * 2)[1],
        }
        for stage, name in STAGES.items()
        if values.get(stage) is not None
    ]
    if not bars:
        return None
    title = "Accuracy" if kind == "accuracy" else "Agreement with the dense model"
    return {"title": title, "bars": bars, "samples": samples}


def _divergence(report: Document) -> list[tuple[str, str]]:
    fidelity = report.get("fidelity") or {}
    return [
        (name, number(fidelity[stage]["divergence"]))
        for stage, name in STAGES.items()
        if fidelity.get(stage)
    ]


def _layers(sparsity: Document) -> list[dict[str, Any]]:
    largest = max((layer["count"] for layer in sparsity["per_layer"]), default=1)
    return [
        {
            **layer,
            "kept": layer["count"] - layer["zeros"],
            "width": 100 * layer["count"] / largest,
            "kept_width": 100 * (layer["count"] - layer["zeros"]) / largest,
        }
        for layer in sparsity["per_layer"]
    ]


def _search_plot(report: Document) -> Any:
    best = (report.get("search") or {}).get("best_by_generation") or []
    points = [(i, value) for i, value in enumerate(best) if value is not None]
    titles = [f"generation {int(i)}: {value:.4g}" for i, value in points]
    line = Line("", points, dots=True, titles=titles)
    return line_plot([line], "generation", "best fitness")


def _trials(goal: Document | None) -> dict[str, Any] | None:
    """Return what the trials of a search for a goal measured, as rows and as a plot."""
    if not goal:
        return None
    trials = sorted(goal["trials"], key=lambda trial: trial["sparsity"])
    points = [(100 * trial["sparsity"], trial["measured"]) for trial in trials]
    drop = goal["kind"] == "drop"
    limit = [(points[0][0], goal["limit"]), (points[-1][0], goal["limit"])]
    titles = [measured_text(goal["kind"], y) for _, y in points]
    lines = [
        Line("allowed", limit if len(points) > 1 else [], "before"),
        Line(goal["kind"], points, "after", dots=True, titles=titles),
    ]
    title = "drop" if drop else "size, bytes"
    plot = line_plot(lines, "sparsity, percent", title, percent=drop)
    rows = [
        (f"{trial['sparsity']:g}", measured_text(goal["kind"], trial["measured"]))
        for trial in goal["trials"]
    ]
    return {"text": goal_text(goal), "rows": rows, "plot": plot, "title": title}


def _training_plot(report: Document) -> Any:
    raw, mean = smoothed((report.get("training") or {}).get("loss") or [])
    lines = [Line("loss", raw, "dense", faint=True), Line("running mean", mean, "after")]
    return line_plot(lines, "step", "loss", logarithmic=True)


def _course_plot(report: Document) -> Any:
    """Return how good the model would have been at each epoch, by what is known of it."""
    history = (report.get("training") or {}).get("history") or []
    for key in ("accuracy", "agreement"):
        points = [(point["step"], point[key]) for point in history if point.get(key) is not None]
        if len(points) < 2:
            continue
        titles = [f"step {step}: {percent(value)}" for step, value in points]
        dense = (report.get("accuracy") or {}).get("dense") if key == "accuracy" else None
        ends = [] if dense is None else [(points[0][0], dense), (points[-1][0], dense)]
        lines = [
            Line("dense", ends, "dense"),
            Line("sparse", points, "after", dots=True, titles=titles),
        ]
        plot = line_plot([line for line in lines if line.points], "step", key, percent=True)
        return {"plot": plot, "title": key.capitalize(), "samples": history[0]["samples"]}
    return None


def _histograms(figures: Document) -> list[dict[str, Any]]:
    found = []
    for layer in figures.get("histograms") or []:
        highest = max((*layer["before"], *layer["after"], 1))
        found.append(
            {
                **layer,
                "before_path": histogram_path(layer["before"], highest),
                "after_path": histogram_path(layer["after"], highest),
            }
        )
    return found


def _files(report: Document) -> list[tuple[str, str, str, str]]:
    """Return rows of title, dense, sparse and ratio."""
    dense, sparse = report["model"], report.get("output")
    if not sparse:
        return []
    titles = {"bytes": "file", "bytes_zipped": "file, zipped"}
    titles |= {key: key.replace("_", " ") for key in sparse if key.startswith("bytes_")} | titles
    return [
        (
            title,
            size_text(dense[key]) if key in dense else "",
            size_text(sparse[key]),
            f"{sparse[key] / dense[key]:.3f}" if dense.get(key) else "",
        )
        for key, title in titles.items()
        if isinstance(sparse.get(key), int)
    ]


def _latency(report: Document) -> dict[str, Any] | None:
    """Return what one run takes, and how that was measured."""
    latency = report.get("latency")
    if not latency:
        return None
    rows = [(name, f"{latency[key]:.3g} ms") for name, key in LATENCIES.items()]
    if load := report.get("load"):
        rows += [(f"{name}, load", f"{load[key]:.3g} ms") for name, key in LATENCIES.items()]
    if memory := report.get("memory"):
        rows += [(f"{name}, peak memory", size_text(memory[f"{name}_bytes"])) for name in LATENCIES]
    return {"rows": rows, "note": latency_note(latency), "gains": report.get("runtimes") or []}


def _facts(report: Document) -> list[tuple[str, str]]:
    search = report.get("search") or {}
    training, output = report.get("training") or {}, report.get("output") or {}
    rows: list[tuple[str, str]] = [("dense model", str(report["model"]["path"]))]
    if output:
        rows.append(("sparse model", str(output["path"])))
    for title, key in (("calibration data", "data"), ("measured on", "measured_on")):
        if report.get(key):
            rows.append((title, str(report[key]["description"])))
    if (dead := report.get("dead_channels")) and dead.get("dead"):
        rows.append(("dead channels", dead_channels_text(dead)))
    if search.get("evaluations"):
        rows.append(
            ("search", f"{search['evaluations']:,} candidates on {search['images']:,} samples")
        )
    if training.get("steps"):
        rows.append(("training", f"{training['steps']:,} steps on {training['images']:,} samples"))
    if spent := time_text(report.get("time") or {}):
        rows.append(("time", spent))
    if report.get("memory_peak_bytes"):
        rows.append(("peak memory", size_text(report["memory_peak_bytes"])))
    rows.append(("seed", str(report["seed"])))
    return rows
