"""The tables of a document: layers, measures, sizes, speeds, and facts in a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from onnx_unipts.report.tables import cells, pairs, table_of
from onnx_unipts.report.text import dead_channels_text, goal_text, latency_note, time_text
from onnx_unipts.report.text import number as _number
from onnx_unipts.report.text import percent as _percent
from onnx_unipts.report.text import shape_text as _shape
from onnx_unipts.report.text import size_text as _bytes

__all__ = [
    "fact_table",
    "layer_table",
    "measure_table",
    "report_tables",
    "size_table",
    "speed_table",
]

Document = Mapping[str, Any]
STAGES = ("dense", "before_recovery", "before_quantization", "after_recovery", "sparse")


def report_tables(report: Document) -> list[Table]:
    """Return the tables of a ``report.json`` document: layers, measures, sizes and facts."""
    tables = (
        layer_table(report["sparsity"]),
        measure_table(report),
        size_table(report["model"], report.get("output"), report.get("storage")),
        speed_table(report),
        fact_table(report, "are zero"),
    )
    return [table for table in tables if table is not None]


def layer_table(sparsity: Document) -> Table:
    """Return how sparse each weight is, and all of them."""
    table = table_of("weight", "operator", "shape", "weights>", "zeros>", "sparsity>")
    for layer in sparsity["per_layer"]:
        table.add_row(
            *cells(
                layer["name"],
                layer["operator"],
                _shape(layer["shape"]),
                f"{layer['count']:,}",
                f"{layer['zeros']:,}",
                _percent(layer["sparsity"]),
            )
        )
    table.add_section()
    table.add_row(
        "all",
        "",
        "",
        f"{sparsity['weights']:,}",
        f"{sparsity['zeros']:,}",
        _percent(sparsity["achieved"]),
        style="bold",
    )
    return table


def measure_table(document: Document) -> Table | None:
    """Accuracy, agreement and divergence, one column per stage."""
    accuracy, fidelity = document.get("accuracy") or {}, document.get("fidelity") or {}
    stages = [stage for stage in STAGES if stage in accuracy or stage in fidelity]
    if not stages:
        return None
    table = table_of("", *(f"{stage.replace('_', ' ')}>" for stage in stages))

    def row(title: str, texts: Sequence[str], style: str = "") -> None:
        if any(texts):
            table.add_row(title, *texts, style=style)

    row("accuracy", [_percent(accuracy.get(stage)) for stage in stages])
    row("  95 % interval", [_interval(accuracy, stage) for stage in stages], "dim")
    measured = [fidelity.get(stage) or {} for stage in stages]
    row("agreement with dense", [_percent(m.get("agreement")) for m in measured])
    row("  95 % interval", [_interval(fidelity, stage) for stage in stages], "dim")
    row("divergence from dense", [_number(m.get("divergence")) for m in measured])
    return table


def size_table(
    dense: Document, sparse: Document | None, storage: Document | None = None
) -> Table | None:
    """Return what the files take, and what ``storage`` says they could; None without a file."""
    if not sparse:
        return None
    table = table_of("size", "dense>", "sparse>", "ratio>")
    for title, key in (("file", "bytes"), ("file, zipped", "bytes_zipped")):
        ratio = sparse[key] / dense[key] if dense[key] else 1.0
        table.add_row(title, _bytes(dense[key]), _bytes(sparse[key]), f"{ratio:.3f}")
    if storage:
        bound = storage["bytes_entropy_bound"]
        ratio = bound / dense["bytes"] if dense["bytes"] else 1.0
        table.add_row("entropy bound", "", _bytes(bound), f"{ratio:.3f}", style="dim")
    return table


def speed_table(document: Document) -> Table | None:
    """Return the table of times and memory, as far as they were measured."""
    table = table_of("", "dense>", "sparse>", "ratio>")
    for title, key in (("latency", "latency"), ("load time", "load")):
        if measured := document.get(key):
            times = [f"{measured[f'{model}_ms']:.3g} ms" for model in ("dense", "sparse")]
            table.add_row(title, *times, f"{measured['ratio']:.3f}")
    if memory := document.get("memory"):
        sizes = [_bytes(memory[f"{model}_bytes"]) for model in ("dense", "sparse")]
        table.add_row("peak memory", *sizes, f"{memory['ratio']:.3f}")
    return table if table.row_count else None


def fact_table(report: Document, verb: str) -> Table:
    """Return the facts of a report; ``verb`` says of the weights that they ``are zero``."""
    sparsity = report["sparsity"]
    facts = pairs()
    facts.add_row(
        "sparsity",
        f"{sparsity['achieved']:.4f} (target {sparsity['target']:g}): "
        f"{sparsity['zeros']:,} of {sparsity['weights']:,} weights {verb}",
    )
    if (dead := report.get("dead_channels")) and dead.get("dead"):
        facts.add_row("dead channels", dead_channels_text(dead))
    for title, key in (("data", "data"), ("measured on", "measured_on")):
        if report.get(key):
            facts.add_row(title, Text(str(report[key]["description"])))
    if (search := report.get("search")) and search.get("evaluations"):
        facts.add_row("search", _search(search))
    if spent := time_text(report.get("time") or {}):
        facts.add_row("time", spent)
    if latency := report.get("latency"):
        facts.add_row("latency", latency_note(latency))
    for sentence in report.get("runtimes") or []:
        facts.add_row("gain", Text(sentence))
    if report.get("memory_peak_bytes"):
        facts.add_row("peak memory", _bytes(report["memory_peak_bytes"]))
    if report.get("goal"):
        facts.add_row("target", Text(goal_text(report["goal"])))
    if report.get("output"):
        facts.add_row("written", Text(str(report["output"]["path"])))
    return facts


def _search(search: Document) -> str:
    best = _number(max(search["best_by_generation"], default=None))
    return (
        f"{search['evaluations']:,} candidates on {search['images']:,} samples, best fitness {best}"
    )


def _interval(measure: Document, stage: str) -> str:
    interval = (measure.get("interval") or {}).get(stage)
    if interval is None:
        return ""
    low, high = interval
    return f"{100 * low:.2f} to {100 * high:.2f}"
