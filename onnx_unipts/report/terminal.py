"""Printing on the terminal, from the same documents that ``--json`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from rich.text import Text

from onnx_unipts.report.summary import (
    fact_table,
    layer_table,
    measure_table,
    report_tables,
    size_table,
    speed_table,
)
from onnx_unipts.report.tables import cells, console_on, pairs, show, table_of
from onnx_unipts.report.text import latency_note, phases_text
from onnx_unipts.report.text import number as _number
from onnx_unipts.report.text import percent as _percent
from onnx_unipts.report.text import seconds_text as _seconds
from onnx_unipts.report.text import shape_text as _shape
from onnx_unipts.report.text import size_text as _bytes

__all__ = [
    "print_benchmark",
    "print_comparison",
    "print_environment",
    "print_evaluation",
    "print_inspection",
    "print_packing",
    "print_plan",
    "print_plans",
    "print_recipes",
    "print_report",
    "print_search",
]

Document = Mapping[str, Any]
PHASES = ("rehearsal", "search", "training")


def print_report(report: Document, stream: TextIO | None = None) -> None:
    """Print the layers and the summary of a ``report.json`` document."""
    console = console_on(stream)
    for table in report_tables(report):
        show(console, table)


def print_search(report: Document, stream: TextIO | None = None) -> None:
    """Print the allocation that a search found, and what finding it took."""
    console = console_on(stream)
    kept = {layer["name"]: layer["kept"] for layer in report["allocation"]["layers"]}
    layers = [
        {**layer, "zeros": layer["count"] - kept[layer["name"]]}
        for layer in report["sparsity"]["per_layer"]
    ]
    for layer in layers:
        layer["sparsity"] = layer["zeros"] / layer["count"]
    weights, zeros = report["sparsity"]["weights"], sum(layer["zeros"] for layer in layers)
    allocated = {
        **report["sparsity"],
        "per_layer": layers,
        "zeros": zeros,
        "achieved": zeros / weights,
    }
    show(console, layer_table(allocated))
    show(console, fact_table({**report, "sparsity": allocated}, "will be zero"))


def print_plan(report: Document, stream: TextIO | None = None) -> None:
    """Print what a run would prune, for ``--dry-run``."""
    console = console_on(stream)
    table = table_of("weight", "operator", "shape", "weights>")
    layers, weights = report["sparsity"]["per_layer"], report["sparsity"]["weights"]
    for layer in layers:
        name, operator, shape = layer["name"], layer["operator"], _shape(layer["shape"])
        table.add_row(*cells(name, operator, shape, f"{layer['count']:,}"))
    show(console, table)
    facts = pairs()
    facts.add_row(
        "plan",
        f"{_percent(report['sparsity']['target'])} of the {weights:,} weights in {len(layers)} "
        "tensors would become zero; no model was written",
    )
    facts.add_row("data", Text(str(report["data"]["description"])))
    expected = report.get("estimate")
    if expected:
        total = _seconds(expected["total_seconds"])
        facts.add_row("time", f"about {total} on an idle machine ({phases_text(expected, PHASES)})")
        facts.add_row("memory", f"about {_bytes(expected['memory_bytes'])}")
    show(console, facts)


def print_plans(plans: Document, stream: TextIO | None = None) -> None:
    """Print what each of ``runs`` would prune, for ``--dry-run``."""
    for report in plans["runs"]:
        print_plan(report, stream)


def print_evaluation(evaluation: Document, stream: TextIO | None = None) -> None:
    """Print the comparison of two model files."""
    console = console_on(stream)
    show(console, layer_table(evaluation["sparsity"]))
    show(console, measure_table(evaluation))
    show(console, size_table(evaluation["dense"], evaluation["sparse"]))


def print_benchmark(document: Document, stream: TextIO | None = None) -> None:
    """Print what the sparse file gains beside the dense one."""
    console = console_on(stream)
    bound = document["bytes_entropy_bound"]
    storage = None if bound is None else {"bytes_entropy_bound": bound}
    show(console, size_table(document["dense"], document["sparse"], storage))
    show(console, speed_table(document))
    facts = pairs()
    if document["sparsity"]:
        facts.add_row("sparsity", f"{document['sparsity']['achieved']:.4f}")
    facts.add_row("latency", latency_note(document["latency"]))
    for sentence in document["runtimes"]:
        facts.add_row("gain", Text(sentence))
    show(console, facts)


def print_packing(document: Document, stream: TextIO | None = None) -> None:
    """Print what packing or unpacking did to a model file."""
    console = console_on(stream)
    kinds: dict[str, list[Document]] = {}
    for weight in document["weights"]:
        kinds.setdefault(weight.get("kind", "unpacked"), []).append(weight)
    table = table_of("weights", "count>", "before>", "after>")
    for kind, weights in sorted(kinds.items()):
        sizes = [
            _bytes(sum(weight[key] for weight in weights)) if key in weights[0] else ""
            for key in ("dense_bytes", "packed_bytes")
        ]
        table.add_row(kind, str(len(weights)), *sizes)
    show(console, table)
    before, after = document["model"], document["output"]
    files = table_of("size", "before>", "after>", "ratio>")
    for title, key in (("file", "bytes"), ("file, zipped", "bytes_zipped")):
        ratio = f"{after[key] / before[key]:.3f}"
        files.add_row(title, _bytes(before[key]), _bytes(after[key]), ratio)
    show(console, files)
    facts = pairs()
    for note in document["notes"]:
        facts.add_row("note", Text(note))
    facts.add_row("written", Text(str(after["path"])))
    show(console, facts)


def print_inspection(inspection: Document, stream: TextIO | None = None) -> None:
    """Print the weights of a model, what is pruned of them and why the rest is not."""
    console = console_on(stream)
    weights = inspection["weights"]
    table = table_of("weight", "operator", "shape", "weights>", "pruned")
    for weight in weights:
        name = f"{weight['scope']}:{weight['name']}" if weight["scope"] else weight["name"]
        verdict = "yes" if weight["pruned"] else f"no: {weight['reason']}"
        style = "" if weight["pruned"] else "dim"
        table.add_row(
            *cells(
                name,
                weight["operator"],
                _shape(weight["shape"]),
                f"{weight['count']:,}",
                verdict,
            ),
            style=style,
        )
    pruned = [weight["count"] for weight in weights if weight["pruned"]]
    table.add_section()
    table.add_row("total", "", "", f"{sum(w['count'] for w in weights):,}", "", style="bold")
    table.add_row(
        "pruned", "", f"{len(pruned)} of {len(weights)}", f"{sum(pruned):,}", "", style="bold"
    )
    show(console, table)
    signature = pairs()
    for kind in ("inputs", "outputs"):
        for i, value in enumerate(inspection[kind]):
            signature.add_row(kind if i == 0 else "", Text(_tensor(value)))
    if inspection["last_resort"]:
        unasked = f"prunes the {inspection['last_resort']} weights, as there are no others"
        signature.add_row("compress", unasked)
    show(console, signature)


def print_environment(environment: Document, stream: TextIO | None = None) -> None:
    """Print versions and machine, and for every problem the commands that mend it."""
    console = console_on(stream)
    runtime = environment["onnxruntime"]
    memory = environment["memory_bytes"]
    found = ", ".join(f"{name} {version}" for name, version in runtime["distributions"].items())
    build = "training build" if runtime["training"] else "not the training build"
    facts = pairs()
    for name, value in (
        ("onnx-unipts", environment["onnx-unipts"] or "not installed"),
        ("Python", f"{environment['python']} ({environment['executable']})"),
        ("platform", environment["platform"]),
        ("cores", str(environment["cores"])),
        ("memory", f"{memory / 2**30:.1f} GiB" if memory else "unknown"),
        ("onnxruntime", f"{runtime['version']}, {build}" if runtime["version"] else "not usable"),
        ("  installed by", found or "nothing"),
        *((name, version or "missing") for name, version in environment["libraries"].items()),
    ):
        facts.add_row(name, Text(value))
    show(console, facts)
    for problem in environment["problems"]:
        console.print(Text.assemble(("Problem: ", "bold red"), problem["problem"]), soft_wrap=True)
        console.print("Mend it with:")
        for command in problem["commands"]:
            console.print(Text(f"    {command}"), soft_wrap=True)
        console.print()
    if not environment["problems"]:
        console.print(Text("Everything is in place.", "green"))


def print_comparison(comparison: Document, stream: TextIO | None = None) -> None:
    """Print runs side by side, then the settings in which they differ."""
    console = console_on(stream)
    runs = comparison["runs"]
    columns = {
        "sparsity": ("sparsity", _percent),
        "accuracy": ("accuracy", _percent),
        "agreement": ("agreement", _percent),
        "divergence": ("divergence", _number),
        "size, zipped": ("bytes_zipped", _bytes),
        "time": ("total_seconds", _seconds),
    }
    table = table_of("run", *(f"{title}>" for title in columns))
    for run in runs:
        values = ((run[key], text_of) for key, text_of in columns.values())
        texts = ["" if value is None else text_of(value) for value, text_of in values]
        table.add_row(*cells(run["name"], *texts))
    show(console, table)
    settings = table_of("setting", *(run["name"] for run in runs))
    for key, values in comparison["settings"].items():
        settings.add_row(*cells(key, *map(str, values)))
    show(console, settings)


def print_recipes(recipes: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Print the recipes' names and descriptions."""
    table = pairs()
    for name, description in recipes.items():
        table.add_row(Text(name, "bold"), Text(description))
    console_on(stream).print(table)


def _tensor(value: Document) -> str:
    kind = f"sequence of {value['dtype']}" if value.get("sequence") else value["dtype"]
    if value["shape"] is None:
        return f"{value['name']}  {kind} of any shape"
    axes = ", ".join("?" if axis is None else str(axis) for axis in value["shape"])
    return f"{value['name']}  {kind} [{axes}]"
