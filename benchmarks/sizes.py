"""Size of every file format, as a ratio to the dense file, at one sparsity.

The masks are those of magnitude pruning, untrained: sizes depend on where the zeros are, not on the
values. Prints a table, and the same as JSON with --json.
"""

from __future__ import annotations

import json
import math
import tempfile
import zlib
from pathlib import Path

import click
import numpy as np
from pruned import pruned

from onnx_unipts.export import FORMATS, Storage
from onnx_unipts.graph.packing import choices

STORAGES = {
    "dense": Storage("dense"),
    **{f"packed, {how}": Storage("packed", how) for how in choices()},
    "packed, delta8, float16": Storage("packed", "delta8", "float16"),
    "packed, smallest, float16": Storage("packed", "smallest", "float16"),
    "sparse-initializer": Storage("sparse-initializer"),
    "ort": Storage("ort"),
}


@click.command()
@click.argument(
    "models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--sparsity", default=0.9, show_default=True)
@click.option("--allocation", default="global", show_default=True, help="global, lamp, erk, ...")
@click.option("--json", "as_json", is_flag=True)
def main(models: tuple[Path, ...], sparsity: float, allocation: str, as_json: bool) -> None:
    """Store every one of MODELS, pruned, in every format."""
    ratios = {path.name: _ratios(path, sparsity, allocation) for path in models}
    if as_json:
        click.echo(json.dumps({"sparsity": sparsity, "allocation": allocation, "ratio": ratios}))
        return
    click.echo(f"sparsity {sparsity:g}, allocation {allocation}")
    width = max(map(len, next(iter(ratios.values()))))
    click.echo(" " * width + "  " + "  ".join(ratios))
    for form in next(iter(ratios.values())):
        cells = [f"{ratio[form]:.3f}".rjust(len(name)) for name, ratio in ratios.items()]
        click.echo(f"{form.ljust(width)}  " + "  ".join(cells))


def _ratios(path: Path, sparsity: float, allocation: str) -> dict[str, float]:
    dense = path.stat().st_size
    ratios = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, storage in STORAGES.items():
            exporter = FORMATS[storage.format]()
            output = Path(directory) / f"model{exporter.suffix}"
            model, weights = pruned(path, sparsity, allocation)
            exporter.write(model, output, storage)
            ratios[name] = output.stat().st_size / dense
            if name == "dense":
                ratios["dense, zipped"] = len(zlib.compress(output.read_bytes())) / dense
    ratios["entropy bound"] = sum(map(_bound, weights.values())) / dense
    ratios["entropy bound"] += 1 - sum(weight.nbytes for weight in weights.values()) / dense
    return ratios


def _bound(weight: np.ndarray) -> float:
    """Return the entropy of the mask and the bytes of the values."""
    share = np.count_nonzero(weight) / weight.size
    entropy = sum(-p * math.log2(p) for p in (share, 1 - share) if p > 0)
    return float(weight.size * (entropy / 8 + share * weight.itemsize))


if __name__ == "__main__":
    main()
