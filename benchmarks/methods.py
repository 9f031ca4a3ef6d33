"""Methods x sparsities x models: accuracy with its spread over seeds, time, images and memory.

Every run is an `onnx-unipts compress` in a process of its own, so that its time and peak memory
are its own; one after the other. The table shows mean and standard deviation over the seeds; --out
keeps every run and the table as JSON, rewritten after each run.

    python benchmarks/methods.py
    python benchmarks/methods.py --methods unipts,obs,lamp --sparsities 0.9,0.95 --epochs 3 \
        --case "resnet20=resnet20.onnx --data calibration/ --eval-data test/ --std 0.2,0.2,0.2"
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from onnx_unipts.environment import versions
from onnx_unipts.output_file import atomic_path
from onnx_unipts.patterns import parse_pattern
from onnx_unipts.recipe import list_recipes, load_recipe

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
DIGITS = shlex.join(
    [
        f"digits={EXAMPLE / 'digits.onnx'}",
        *("--data", str(EXAMPLE / "calibration.npz")),
        *("--eval-data", str(EXAMPLE / "test.npz")),
    ]
)
# Published settings: a search of 650 candidates on all images, and 100 epochs. By name only.
LONG = {"unipts-paper"}


WIDTH = 140


@dataclass(frozen=True)
class Run:
    """One compression, as its report has it; ``error`` instead where it failed."""

    case: str
    method: str
    sparsity: float
    seed: int
    dense: float | None = None
    before: float | None = None
    after: float | None = None
    divergence: float | None = None
    agreement: float | None = None
    seconds: float | None = None
    search_images: int | None = None
    training_images: int | None = None
    peak_bytes: int | None = None
    error: str = ""


@click.command(help=__doc__)
@click.option("--case", "cases", multiple=True, help="NAME=MODEL with options of compress.")
@click.option("--methods", default=",".join(m for m in list_recipes() if m not in LONG))
@click.option("--sparsities", default="0.9,0.95", show_default=True)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--epochs", type=int, help="Of the methods that train; else the recipe's own.")
@click.option("--option", "options", multiple=True, help="For all runs, as '--num-samples 1024'.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A JSON file.")
def main(
    cases: Sequence[str],
    methods: str,
    sparsities: str,
    seeds: str,
    epochs: int | None,
    options: Sequence[str],
    out: Path | None,
) -> None:
    """Run all combinations and print the table."""
    console = Console(stderr=True)
    runs: list[Run] = []
    shared = [word for option in options for word in shlex.split(option)]
    for case in cases or [DIGITS]:
        name, _, rest = case.partition("=")
        for method, sparsity in _plan(methods.split(","), map(float, sparsities.split(","))):
            for seed in map(int, seeds.split(",")):
                arguments = [*shlex.split(rest), *shared, *_epochs(method, epochs)]
                runs.append(_run(name, method, sparsity, seed, arguments))
                console.print(_line(runs[-1]), highlight=False)
                if out is not None:
                    _write(out, runs)
    Console(width=WIDTH).print(_table(summaries(runs)))


def summaries(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return one row per case, sparsity and method: means and standard deviations over seeds."""
    groups: dict[tuple[str, float, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.case, run.sparsity, run.method), []).append(run)
    return [
        {
            "case": case,
            "sparsity": sparsity,
            "method": method,
            "seeds": [run.seed for run in group],
            "failed": sum(bool(run.error) for run in group),
            **{key: _spread(group, key) for key in MEASURES},
        }
        for (case, sparsity, method), group in sorted(groups.items())
    ]


MEASURES = (
    "dense",
    "before",
    "after",
    "divergence",
    "agreement",
    "seconds",
    "search_images",
    "training_images",
    "peak_bytes",
)


def _spread(runs: Sequence[Run], key: str) -> dict[str, float] | None:
    values = [value for run in runs if (value := getattr(run, key)) is not None]
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "deviation": deviation}


def _plan(methods: Sequence[str], sparsities: Iterator[float]) -> list[tuple[str, float]]:
    """Pair methods and sparsities; those with a pattern that prescribes its own come once."""
    wanted = list(sparsities)
    pairs = []
    for method in methods:
        fixed = parse_pattern(load_recipe(method).pattern).fixed_sparsity
        pairs += [(method, sparsity) for sparsity in ([fixed] if fixed is not None else wanted)]
    return pairs


def _epochs(method: str, epochs: int | None) -> list[str]:
    trains = load_recipe(method).training.epochs > 0
    return ["--epochs", str(epochs)] if trains and epochs is not None else []


def _run(case: str, method: str, sparsity: float, seed: int, arguments: Sequence[str]) -> Run:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "onnx_unipts", "compress", *arguments]
        command += ["--recipe", method, "--sparsity", f"{sparsity:.6g}", "--seed", str(seed)]
        command += ["-o", os.path.join(directory, "sparse.onnx"), "--json", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Run(case, method, sparsity, seed, error=lines[-1])
    report = json.loads(done.stdout)
    accuracy, fidelity = report["accuracy"] or {}, report["fidelity"] or {}
    recovered = fidelity.get("after_recovery") or {}
    return Run(
        case,
        method,
        sparsity,
        seed,
        accuracy.get("dense"),
        accuracy.get("before_recovery"),
        accuracy.get("after_recovery"),
        recovered.get("divergence"),
        recovered.get("agreement"),
        report["time"]["total_seconds"],
        report["search"]["images"],
        report["training"]["images"],
        report["memory_peak_bytes"],
    )


def _write(path: Path, runs: Sequence[Run]) -> None:
    document = {
        "cores": os.cpu_count(),
        "versions": versions(),
        "table": summaries(runs),
        "runs": [asdict(run) for run in runs],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _line(run: Run) -> str:
    outcome = run.error or f"{_percent(run.after)}, {run.seconds:.0f} s"
    return f"{run.case} {run.sparsity:g} {run.method} seed {run.seed}: {outcome}"


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for column in ("model", "sparsity", "method"):
        table.add_column(column, no_wrap=True)
    for column in ("dense %", "pruned %", "after %", "agree %", "divergence"):
        table.add_column(column, justify="right")
    for column in ("s", "searched", "trained", "MB"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["case"],
            f"{row['sparsity']:g}",
            row["method"] + (f" ({row['failed']} failed)" if row["failed"] else ""),
            _cell(row["dense"], 100, spread=False),
            _cell(row["before"], 100),
            _cell(row["after"], 100),
            _cell(row["agreement"], 100),
            _cell(row["divergence"], 1, digits=3),
            _cell(row["seconds"], 1, digits=0),
            _cell(row["search_images"], 1, digits=0, spread=False),
            _cell(row["training_images"], 1, digits=0, spread=False),
            _cell(row["peak_bytes"], 1e-6, digits=0, spread=False),
        )
    return table


def _cell(
    value: dict[str, float] | None, scale: float, digits: int = 1, spread: bool = True
) -> str:
    if value is None:
        return "-"
    text = f"{value['mean'] * scale:.{digits}f}"
    return f"{text} ± {value['deviation'] * scale:.{digits}f}" if spread else text


def _percent(share: float | None) -> str:
    return "no labels" if share is None else f"{share:.2%}"


if __name__ == "__main__":
    main()
