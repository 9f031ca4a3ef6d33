"""Time of a whole compression as a share of that of the published method in torch.

UniPTS, scaled to the images at hand, reaches its accuracy after so many steps and a search of so
many candidates (arXiv 2405.18810, section 4.1 for the full one). Both cost the same from the first
to the last: some of them are timed in torch, eager, on the same cores, and counted as many times as
the method needs them; its reading and augmenting of images and its evaluation are left out. The
command after `--` is timed as it is, with all it does. In turn. Needs torch, an extra of the
benchmarks alone.

    python benchmarks/time_to_accuracy.py --depth 20 --steps 1600 --candidates 110 \\
        -- compress resnet20.onnx --data calibration --sparsity 0.95 --epochs 2
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

import click
import numpy as np
from training_step import seconds

from onnx_unipts.cores import available_cores

# What is timed of the published method in each round.
STEPS = 100
CANDIDATES = 5


@click.command(help=__doc__, context_settings={"ignore_unknown_options": True})
@click.option("--depth", default=20, show_default=True, help="Of the ResNet in torch.")
@click.option("--batch-size", default=64, show_default=True)
@click.option("--sparsity", default=0.95, show_default=True)
@click.option("--steps", default=1600, show_default=True, help="Of the published method.")
@click.option("--candidates", default=110, show_default=True, help="Of the published method.")
@click.option("--samples", default=512, show_default=True, help="That score a candidate.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def main(
    depth: int,
    batch_size: int,
    sparsity: float,
    steps: int,
    candidates: int,
    samples: int,
    rounds: int,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Compare COMMAND of onnx-unipts with the published method."""
    try:
        from torch_resnet import torch_candidate, torch_step
    except ImportError as error:
        raise click.UsageError("torch is not installed: pip install torch") from error
    cores = available_cores()
    step = torch_step(depth, batch_size, sparsity, cores, channels_last=False, features=0)
    candidate = torch_candidate(depth, batch_size, samples, sparsity, cores)
    times = np.empty((rounds, 3))
    for index in range(rounds):
        own = seconds(lambda: _run(command))
        step()
        trained = seconds(lambda: [step() for _ in range(STEPS)]) * steps / STEPS
        searched = seconds(lambda: [candidate() for _ in range(CANDIDATES)])
        times[index] = own, trained, searched * candidates / CANDIDATES
    own, trained, searched = np.median(times, axis=0)
    shares = {
        "of_training": np.median(times[:, 0] / times[:, 1]),
        "of_all": np.median(times[:, 0] / times[:, 1:].sum(axis=1)),
    }
    if as_json:
        facts = {"command": command, "cores": cores, "rounds": times.tolist()}
        click.echo(json.dumps(facts | {key: float(share) for key, share in shares.items()}))
        return
    click.echo(f"{' '.join(command)}, {cores} cores: {own:.0f} s")
    click.echo(
        f"  published method in torch: {trained:.0f} s of training, {searched:.0f} of search"
    )
    click.echo(
        f"  share of its training {shares['of_training']:.3f}, of all {shares['of_all']:.3f}"
    )


def _run(command: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = [sys.executable, "-m", "onnx_unipts", *command, "--run-dir", f"{directory}/run"]
        subprocess.run(
            [*run, "-o", f"{directory}/sparse.onnx"], check=True, stdout=subprocess.DEVNULL
        )


if __name__ == "__main__":
    main()
