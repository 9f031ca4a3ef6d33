"""What rotation is worth before anything is trained: what pruning takes of the filters, squared.

Of the filters around the linear streams of each model, every one pruned by magnitude as far as the
others. Prints a table, and the same as JSON with --json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

from onnx_unipts.graph.model import load_model, read_tensors
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.patterns import Layout, Masking, parse_pattern
from onnx_unipts.rotation import rotatable, rotated_tensors

# Patterns, and the sparsities at which they are tried.
TRIED = (("unstructured", 0.5), ("unstructured", 0.7), ("unstructured", 0.9), ("2:4", 0.5))
TRIED += (("4x1", 0.5), ("1x4", 0.5))


@click.command()
@click.argument(
    "models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True)
def main(models: tuple[Path, ...], as_json: bool) -> None:
    """Prune every one of MODELS as it is and rotated."""
    found = {path.name: _measured(path) for path in models}
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, facts in found.items():
        click.echo(
            f"{name}: {facts['streams']} streams, {facts['weights']} weights around them, "
            f"{facts['seconds']:.1f} s"
        )
        click.echo("  pattern       sparsity  lost as it is  rotated")
        for row in facts["lost"]:
            click.echo(
                f"  {row['pattern']:12}  {row['sparsity']:8g}  {row['dense']:13.4f}  "
                f"{row['rotated']:7.4f}"
            )


def _measured(path: Path) -> dict[str, object]:
    model = load_model(path)
    layouts = {w.key: Layout.of(w) for w in find_prunable(model) if w.pruned}
    streams = rotatable(model, layouts)
    filters = sorted({key for stream in streams for key in stream.filters})
    dense = read_tensors(model, filters)
    began = time.monotonic()
    rotated = rotated_tensors(model, streams)
    seconds = time.monotonic() - began
    lost = []
    for name, sparsity in TRIED:
        masking = Masking(parse_pattern(name), layouts)
        both = {"dense": dense, "rotated": {key: rotated[key] for key in filters}}
        shares = {what: _lost(tensors, masking, sparsity) for what, tensors in both.items()}
        lost.append({"pattern": name, "sparsity": sparsity, **shares})
    weights = sum(tensor.size for tensor in dense.values())
    return {"streams": len(streams), "weights": weights, "seconds": seconds, "lost": lost}


def _lost(tensors: Mapping[str, np.ndarray], masking: Masking, sparsity: float) -> float:
    """Return the share of the squares of all ``tensors`` that pruning takes."""
    taken = every = 0.0
    for key, tensor in tensors.items():
        mask = masking.mask(key, tensor, tensor.size - int(sparsity * tensor.size))
        squares = tensor.astype(np.float64) ** 2
        taken += squares[~mask].sum()
        every += squares.sum()
    return taken / every if every else 0.0


if __name__ == "__main__":
    main()
