"""Tables on the terminal, made from the same documents that ``--json`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from onnx_unipts.report.text import goal_text, latency_note
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
    "print_recipes",
    "print_report",
    "print_search",
    "report_tables",
]

Document = Mapping[str, Any]
STAGES = ("dense", "before_recovery", "before_quantization", "after_recovery", "sparse")
NARROWEST = 80
PHASES = ("search", "training")


def print_report(report: Document, stream: TextIO | None = None) -> None:
    """Print the layers and the summary of a ``report.json`` document."""
    console = _console(stream)
    for table in report_tables(report):
        _show(console, table)


def report_tables(report: Document) -> list[Table]:
    """Return the tables of a ``report.json`` document: layers, measures, sizes and facts."""
    tables = (
        _layers(report["sparsity"]),
        _measures(report),
        _sizes(report["model"], report.get("output"), report.get("storage")),
        _speeds(report),
        _facts(report, "are zero"),
    )
    return [table for table in tables if table is not None]


def print_search(report: Document, stream: TextIO | None = None) -> None:
    """Print the allocation that a search found, and what finding it took."""
    console = _console(stream)
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
    _show(console, _layers(allocated))
    _show(console, _facts({**report, "sparsity": allocated}, "will be zero"))


def print_plan(report: Document, stream: TextIO | None = None) -> None:
    """Print what a run would prune, for ``--dry-run``."""
    console = _console(stream)
    table = _table("weight", "operator", "shape", "weights>")
    layers, weights = report["sparsity"]["per_layer"], report["sparsity"]["weights"]
    for layer in layers:
        name, operator, shape = layer["name"], layer["operator"], _shape(layer["shape"])
        table.add_row(*_cells(name, operator, shape, f"{layer['count']:,}"))
    _show(console, table)
    facts = _pairs()
    facts.add_row(
        "plan",
        f"{_percent(report['sparsity']['target'])} of the {weights:,} weights in {len(layers)} "
        "tensors would become zero; nothing was written",
    )
    facts.add_row("data", Text(str(report["data"]["description"])))
    expected = report.get("estimate")
    if expected:
        phases = (f"{phase} {_seconds(expected[f'{phase}_seconds'])}" for phase in PHASES)
        total = _seconds(expected["total_seconds"])
        facts.add_row("time", f"about {total} on an idle machine ({', '.join(phases)})")
        facts.add_row("memory", f"about {_bytes(expected['memory_bytes'])}")
    _show(console, facts)


def print_evaluation(evaluation: Document, stream: TextIO | None = None) -> None:
    """Print the comparison of two model files."""
    console = _console(stream)
    _show(console, _layers(evaluation["sparsity"]))
    _show(console, _measures(evaluation))
    _show(console, _sizes(evaluation["dense"], evaluation["sparse"]))


def print_benchmark(document: Document, stream: TextIO | None = None) -> None:
    """Print what the sparse file gains beside the dense one."""
    console = _console(stream)
    bound = document["bytes_entropy_bound"]
    storage = None if bound is None else {"bytes_entropy_bound": bound}
    _show(console, _sizes(document["dense"], document["sparse"], storage))
    _show(console, _speeds(document))
    facts = _pairs()
    if document["sparsity"]:
        facts.add_row("sparsity", f"{document['sparsity']['achieved']:.4f}")
    facts.add_row("latency", latency_note(document["latency"]))
    for sentence in document["runtimes"]:
        facts.add_row("gain", Text(sentence))
    _show(console, facts)


def print_packing(document: Document, stream: TextIO | None = None) -> None:
    """Print what packing or unpacking did to a model file."""
    console = _console(stream)
    kinds: dict[str, list[Document]] = {}
    for weight in document["weights"]:
        kinds.setdefault(weight.get("kind", "unpacked"), []).append(weight)
    table = _table("weights", "count>", "before>", "after>")
    for kind, weights in sorted(kinds.items()):
        sizes = [
            _bytes(sum(weight[key] for weight in weights)) if key in weights[0] else ""
            for key in ("dense_bytes", "packed_bytes")
        ]
        table.add_row(kind, str(len(weights)), *sizes)
    _show(console, table)
    before, after = document["model"], document["output"]
    files = _table("size", "before>", "after>", "ratio>")
    for title, key in (("file", "bytes"), ("file, zipped", "bytes_zipped")):
        ratio = f"{after[key] / before[key]:.3f}"
        files.add_row(title, _bytes(before[key]), _bytes(after[key]), ratio)
    _show(console, files)
    facts = _pairs()
    for note in document["notes"]:
        facts.add_row("note", Text(note))
    facts.add_row("written", Text(str(after["path"])))
    _show(console, facts)


def print_inspection(inspection: Document, stream: TextIO | None = None) -> None:
    """Print the weights of a model, what is pruned of them and why the rest is not."""
    console = _console(stream)
    weights = inspection["weights"]
    table = _table("weight", "operator", "shape", "weights>", "pruned")
    for weight in weights:
        name = f"{weight['scope']}:{weight['name']}" if weight["scope"] else weight["name"]
        verdict = "yes" if weight["pruned"] else f"no: {weight['reason']}"
        style = "" if weight["pruned"] else "dim"
        table.add_row(
            *_cells(
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
    _show(console, table)
    signature = _pairs()
    for kind in ("inputs", "outputs"):
        for i, value in enumerate(inspection[kind]):
            signature.add_row(kind if i == 0 else "", Text(_tensor(value)))
    _show(console, signature)


def print_environment(environment: Document, stream: TextIO | None = None) -> None:
    """Print versions and machine, and for every problem the commands that mend it."""
    console = _console(stream)
    runtime = environment["onnxruntime"]
    memory = environment["memory_bytes"]
    found = ", ".join(f"{name} {version}" for name, version in runtime["distributions"].items())
    build = "training build" if runtime["training"] else "not the training build"
    facts = _pairs()
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
    _show(console, facts)
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
    console = _console(stream)
    runs = comparison["runs"]
    columns = {
        "sparsity": ("sparsity", _percent),
        "accuracy": ("accuracy", _percent),
        "agreement": ("agreement", _percent),
        "divergence": ("divergence", _number),
        "size, zipped": ("bytes_zipped", _bytes),
        "time": ("total_seconds", _seconds),
    }
    table = _table("run", *(f"{title}>" for title in columns))
    for run in runs:
        values = ((run[key], show) for key, show in columns.values())
        cells = ["" if value is None else show(value) for value, show in values]
        table.add_row(*_cells(run["name"], *cells))
    _show(console, table)
    settings = _table("setting", *(run["name"] for run in runs))
    for key, values in comparison["settings"].items():
        settings.add_row(*_cells(key, *map(str, values)))
    _show(console, settings)


def print_recipes(recipes: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Print the recipes' names and descriptions."""
    table = _pairs()
    for name, description in recipes.items():
        table.add_row(Text(name, "bold"), Text(description))
    _console(stream).print(table)


def _layers(sparsity: Document) -> Table:
    table = _table("weight", "operator", "shape", "weights>", "zeros>", "sparsity>")
    for layer in sparsity["per_layer"]:
        table.add_row(
            *_cells(
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


def _measures(document: Document) -> Table | None:
    """Accuracy, agreement and divergence, one column per stage."""
    accuracy, fidelity = document.get("accuracy") or {}, document.get("fidelity") or {}
    stages = [stage for stage in STAGES if stage in accuracy or stage in fidelity]
    if not stages:
        return None
    table = _table("", *(f"{stage.replace('_', ' ')}>" for stage in stages))

    def row(title: str, cells: Sequence[str], style: str = "") -> None:
        if any(cells):
            table.add_row(title, *cells, style=style)

    row("accuracy", [_percent(accuracy.get(stage)) for stage in stages])
    row("  95 % interval", [_interval(accuracy, stage) for stage in stages], "dim")
    measured = [fidelity.get(stage) or {} for stage in stages]
    row("agreement with dense", [_percent(m.get("agreement")) for m in measured])
    row("  95 % interval", [_interval(fidelity, stage) for stage in stages], "dim")
    row("divergence from dense", [_number(m.get("divergence")) for m in measured])
    return table


def _sizes(
    dense: Document, sparse: Document | None, storage: Document | None = None
) -> Table | None:
    if not sparse:
        return None
    table = _table("size", "dense>", "sparse>", "ratio>")
    for title, key in (("file", "bytes"), ("file, zipped", "bytes_zipped")):
        ratio = sparse[key] / dense[key] if dense[key] else 1.0
        table.add_row(title, _bytes(dense[key]), _bytes(sparse[key]), f"{ratio:.3f}")
    if storage:
        bound = storage["bytes_entropy_bound"]
        ratio = bound / dense["bytes"] if dense["bytes"] else 1.0
        table.add_row("entropy bound", "", _bytes(bound), f"{ratio:.3f}", style="dim")
    return table


def _speeds(document: Document) -> Table | None:
    """Return the table of times and memory, as far as they were measured."""
    table = _table("", "dense>", "sparse>", "ratio>")
    for title, key in (("latency", "latency"), ("load time", "load")):
        if measured := document.get(key):
            times = [f"{measured[f'{model}_ms']:.3g} ms" for model in ("dense", "sparse")]
            table.add_row(title, *times, f"{measured['ratio']:.3f}")
    if memory := document.get("memory"):
        sizes = [_bytes(memory[f"{model}_bytes"]) for model in ("dense", "sparse")]
        table.add_row("peak memory", *sizes, f"{memory['ratio']:.3f}")
    return table if table.row_count else None


def _facts(report: Document, verb: str) -> Table:
    sparsity, time = report["sparsity"], report.get("time") or {}
    facts = _pairs()
    facts.add_row(
        "sparsity",
        f"{sparsity['achieved']:.4f} (target {sparsity['target']:g}): "
        f"{sparsity['zeros']:,} of {sparsity['weights']:,} weights {verb}",
    )
    dead = report.get("dead_channels") or {}
    if dead.get("dead"):
        facts.add_row(
            "dead channels",
            f"{dead['dead']:,} of {dead['channels']:,}, "
            + (
                f"{dead['removed']:,} removed from {len(dead['tensors'])} tensors; the outputs "
                "stay the same"
                if dead["removed"]
                else "kept; --eliminate-dead-channels makes the model smaller"
            ),
        )
    for title, key in (("data", "data"), ("measured on", "measured_on")):
        if report.get(key):
            facts.add_row(title, Text(str(report[key]["description"])))
    spent = [
        f"{title} {_seconds(time[key])}"
        for title, key in (
            ("search", "search_seconds"),
            ("training", "training_seconds"),
            ("total", "total_seconds"),
        )
        if time.get(key) is not None
    ]
    search = report.get("search") or {}
    if search.get("evaluations"):
        facts.add_row(
            "search",
            f"{search['evaluations']:,} candidates on {search['images']:,} samples, best fitness "
            f"{_number(max(search['best_by_generation'], default=None))}",
        )
    if spent:
        facts.add_row("time", ", ".join(spent))
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


def _console(stream: TextIO | None) -> Console:
    return Console(file=stream, highlight=False)


def _show(console: Console, table: Table | None) -> None:
    """Print ``table``; where no terminal sets the width, as wide as it needs, so lines stay whole.

    A table without rows is left out.
    """
    if table is None or not table.row_count:
        return
    if not console.is_terminal:
        unbounded = console.options.update(width=10_000, max_width=10_000)
        console.width = max(NARROWEST, console.measure(table, options=unbounded).maximum)
    console.print(table)
    console.print()


def _table(*titles: str) -> Table:
    """Make a table; a title that ends in ``>`` has its column aligned to the right."""
    columns = [
        Column(
            title.removesuffix(">"),
            justify="right" if title.endswith(">") else "left",
            overflow="fold",
            no_wrap=title.endswith(">"),
        )
        for title in titles
    ]
    return Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def _pairs() -> Table:
    return Table(
        Column(style="bold", no_wrap=True),
        Column(overflow="fold"),
        box=None,
        show_header=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )


def _cells(*texts: str) -> list[Text]:
    """Names may hold square brackets, which are markup in plain strings."""
    return [Text(text) for text in texts]


def _tensor(value: Document) -> str:
    kind = f"sequence of {value['dtype']}" if value.get("sequence") else value["dtype"]
    if value["shape"] is None:
        return f"{value['name']}  {kind} of any shape"
    axes = ", ".join("?" if axis is None else str(axis) for axis in value["shape"])
    return f"{value['name']}  {kind} [{axes}]"


def _interval(measure: Document, stage: str) -> str:
    interval = (measure.get("interval") or {}).get(stage)
    if interval is None:
        return ""
    low, high = interval
    return f"{100 * low:.2f} to {100 * high:.2f}"
