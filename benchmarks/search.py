"""Fitness against images evaluated: the default search beside the paper's.

Both are scored on the same calibration samples by the same measure, so that their best fitness
compares; the paper's has its own population, births and mutation, and no analytic starts. Prints a
table in Markdown, the same as JSON with --json.

    python benchmarks/search.py model.onnx --data calibration/ --std 0.2,0.2,0.2
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import onnx_unipts
from onnx_unipts.calibration import Preprocessing
from onnx_unipts.recipe import load_recipe


@dataclass(frozen=True)
class Curve:
    """The best fitness so far and the images evaluated so far, by generation."""

    images: list[int]
    fitness: list[float]

    def at(self, images: int) -> float | None:
        """Return the best fitness within so many images; None within less than a generation."""
        within = [f for i, f in zip(self.images, self.fitness, strict=True) if i <= images]
        return within[-1] if within else None


@click.command(help=__doc__)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", help="Calibration data; else made up.")
@click.option("--mean", default="0,0,0", show_default=True)
@click.option("--std", default="1,1,1", show_default=True)
@click.option("--sparsity", default=0.9, show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0,), show_default=True)
@click.option("--generations", default=25, show_default=True, help="Of the paper's search.")
@click.option("--json", "as_json", is_flag=True)
def main(
    model: Path,
    data: str | None,
    mean: str,
    std: str,
    sparsity: float,
    seeds: tuple[int, ...],
    generations: int,
    as_json: bool,
) -> None:
    """Search MODEL's allocation twice per seed."""
    preprocessing = Preprocessing(
        mean=tuple(map(float, mean.split(","))), std=tuple(map(float, std.split(",")))
    )
    found = []
    for seed in seeds:
        common = {"sparsity": sparsity, "data": data, "preprocessing": preprocessing}
        ours = _curve(model, {"seed": seed}, common)
        paper = _curve(model, {"seed": seed, **_published(generations)}, common)
        found.append({"seed": seed, "ours": vars(ours), "paper": vars(paper)})
        if not as_json:
            _print(seed, ours, paper)
    if as_json:
        click.echo(json.dumps({"model": model.name, "sparsity": sparsity, "searches": found}))


def _published(generations: int) -> dict[str, Any]:
    """Return the settings of the paper's search, scored by the default's measure and samples."""
    default = load_recipe("unipts").allocation.search
    settings = load_recipe("unipts-paper").allocation.search.model_dump()
    settings |= {"samples": default.samples, "fitness": default.fitness, "generations": generations}
    return {f"allocation.search.{name}": value for name, value in settings.items()}


def _curve(model: Path, settings: dict[str, Any], common: dict[str, Any]) -> Curve:
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "search.run"
        onnx_unipts.search(model, settings=settings, run_dir=run, **common)
        lines = (run / "journal.jsonl").read_text().splitlines()
    records = [entry["record"] for entry in map(json.loads, lines) if entry["kind"] == "generation"]
    images, fitness = [0], [float("-inf")]
    for record in records:
        images.append(images[-1] + record["images"])
        fitness.append(max(fitness[-1], record["best"]))
    return Curve(images[1:], fitness[1:])


def _print(seed: int, ours: Curve, paper: Curve) -> None:
    click.echo(f"seed {seed}\n\n| images | ours | the paper's |\n|---|---|---|")
    for images in sorted({*ours.images, paper.images[0], *paper.images[4::5], paper.images[-1]}):
        cells = [curve.at(images) for curve in (ours, paper)]
        shown = " | ".join("-" if cell is None else f"{cell:.4f}" for cell in cells)
        click.echo(f"| {images:,} | {shown} |")
    click.echo("")


if __name__ == "__main__":
    main()
