"""What made-up inputs are worth: noise, structured images, those refined, against real images.

A model is compressed on each of them and measured on the same test images.
Prints a table in Markdown. The sparse models are kept in --work.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

import onnx_unipts
from onnx_unipts.calibration import Preprocessing, input_signature
from onnx_unipts.graph.model import load_model
from onnx_unipts.progress import make_progress
from onnx_unipts.recipe import parse_settings

NOISE_SAMPLES = 8192


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("test")
@click.option("--data", help="Real calibration data, for comparison.")
@click.option("--preprocessing", "preset", default="zero-one", show_default=True)
@click.option("--sparsity", "sparsities", type=float, multiple=True, default=(0.8, 0.9))
@click.option("--seed", "seeds", type=int, multiple=True, default=(0,))
@click.option("--only", multiple=True, help="Rows to make; else all.")
@click.option("--set", "settings", multiple=True, help="Settings of the recipe, key=value.")
@click.option("--work", type=click.Path(path_type=Path), default=Path(), show_default=True)
def main(
    model: Path,
    test: str,
    data: str | None,
    preset: str,
    sparsities: tuple[float, ...],
    seeds: tuple[int, ...],
    only: tuple[str, ...],
    settings: tuple[str, ...],
    work: Path,
) -> None:
    """Compress MODEL on made-up inputs of several kinds and measure on TEST, which has labels."""
    chosen = parse_settings(settings)
    print("| inputs | sparsity | seed | samples | steps | dense | pruned | trained |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for sparsity in sparsities:
        for seed in seeds:
            for name, source, extra in _sources(model, data, seed):
                if only and name not in only:
                    continue
                report = onnx_unipts.compress(
                    model,
                    sparsity=sparsity,
                    output=work / f"{model.stem}-{name}-{sparsity}-{seed}.onnx",
                    data=source,
                    eval_data=test,
                    settings={"seed": seed, **extra, **chosen},
                    preprocessing=Preprocessing(preset=preset, augment_arrays=True),
                    progress=make_progress(),
                ).report
                shares = [
                    f"{report['accuracy'][stage]:.1%}"
                    for stage in ("dense", "before_recovery", "after_recovery")
                ]
                samples, steps = report["data"]["samples"], report["training"]["steps"]
                cells = [name, sparsity, seed, samples, steps, *shares]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _sources(model: Path, data: str | None, seed: int) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield the name of each kind of input, the data, and the settings that belong to it."""
    # As with the tool's own made-up images, the dense model does not adapt to them.
    yield "noise", _noise(model, seed), {"training.adaptation": 0}
    yield "structured", "synthetic", {"synthetic.refinement": 0}
    yield "refined", "synthetic", {"synthetic.refinement": 4}
    if data is not None:
        yield "real", data, {}


def _noise(model: Path, seed: int) -> dict[str, np.ndarray]:
    """Return independent normal numbers for every input of floats: what one would try first."""
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.standard_normal((NOISE_SAMPLES, *spec.sample_shape), np.float32)
        for spec in input_signature(load_model(model))
    }


if __name__ == "__main__":
    main()
