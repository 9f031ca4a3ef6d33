"""Time of one training step as a ratio to the same step in torch, eager and channels-last.

A CIFAR ResNet, teacher included: the dense model in inference, masks by magnitude of every layer,
the student's forward and backward pass with statistics of the batch, divergence from the teacher at
a shared temperature, squared errors of inner activations after nine blocks, momentum SGD. All on
the same threads, the same batch size, in turn, after a warm-up. With --scaling the own step on all
cores is compared with that on one. Needs torch, an extra of the benchmarks alone.

    python benchmarks/torch_step.py resnet20.onnx --depth 20
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
from training_step import seconds, training_step

from onnx_unipts.cores import available_cores

FEATURES = 9


@click.command(help=__doc__)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--depth", type=int, required=True, help="Of the ResNet in torch: 20, 44, ...")
@click.option("--batch-size", default=64, show_default=True)
@click.option("--sparsity", default=0.9, show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--scaling", is_flag=True, help="Compare with the own step on one core as well.")
@click.option("--json", "as_json", is_flag=True)
def main(
    model: Path,
    depth: int,
    batch_size: int,
    sparsity: float,
    rounds: int,
    scaling: bool,
    as_json: bool,
) -> None:
    """Compare a training step of MODEL, a CIFAR ResNet of so many layers, with torch."""
    try:
        from torch_resnet import torch_step
    except ImportError as error:
        raise click.UsageError("torch is not installed: pip install torch") from error
    cores = available_cores()
    network = depth, batch_size, sparsity, cores
    steps = {
        "own": training_step(model, batch_size, sparsity, cores)[0],
        "torch eager": torch_step(*network, channels_last=False, features=FEATURES),
        "torch channels-last": torch_step(*network, channels_last=True, features=FEATURES),
    }
    if scaling:
        steps["own on one core"] = training_step(model, batch_size, sparsity, 1)[0]
    for _ in range(3):
        for step in steps.values():
            step()
    times = {name: np.empty(rounds) for name in steps}
    for index in range(rounds):
        for name, step in steps.items():
            times[name][index] = seconds(step)
    ratios = {
        name: np.quantile(times["own"] / taken, [0.25, 0.5, 0.75]).tolist()
        for name, taken in times.items()
        if name != "own"
    }
    milliseconds = {name: float(np.median(taken) * 1e3) for name, taken in times.items()}
    if as_json:
        facts = {"model": model.name, "batch_size": batch_size, "cores": cores}
        click.echo(json.dumps({**facts, "milliseconds": milliseconds, "ratio_quartiles": ratios}))
        return
    click.echo(f"{model.name}, batch {batch_size}, {cores} cores: {milliseconds['own']:.1f} ms")
    for name, (low, middle, high) in ratios.items():
        click.echo(
            f"  to {name}, {milliseconds[name]:.1f} ms: {middle:.2f} ({low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
