"""Time of one training step, teacher included, as a ratio to a forward pass of the dense model.

Both run on the same cores and the same batch, in turn, after a warm-up. Prints each quartile of the
ratios, and the same as JSON with --json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from onnx_unipts.allocation import ALLOCATORS, Problem
from onnx_unipts.calibration import CalibrationData, input_signature, load_calibration_data
from onnx_unipts.cores import available_cores
from onnx_unipts.graph.model import load_model
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.recipe import load_recipe
from onnx_unipts.student import batches_of, build_student
from onnx_unipts.training.ort import inference_session
from onnx_unipts.training.trainer import Trainer, replicas_for


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--batch-size", default=64, show_default=True)
@click.option("--sparsity", default=0.9, show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(model: Path, batch_size: int, sparsity: float, rounds: int, as_json: bool) -> None:
    """Compare a training step of MODEL with its dense forward pass."""
    cores = available_cores()
    step, forward = _contestants(model, batch_size, sparsity, cores)
    for _ in range(3):
        step()
        forward()
    times = np.array([[seconds(step), seconds(forward)] for _ in range(rounds)])
    ratios = np.quantile(times[:, 0] / times[:, 1], [0.25, 0.5, 0.75])
    document = {
        "model": model.name,
        "batch_size": batch_size,
        "cores": cores,
        "step_milliseconds": float(np.median(times[:, 0]) * 1e3),
        "forward_milliseconds": float(np.median(times[:, 1]) * 1e3),
        "ratio_quartiles": ratios.tolist(),
    }
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(
        f"{model.name}, batch {batch_size}, {cores} cores: step "
        f"{document['step_milliseconds']:.1f} ms, dense forward "
        f"{document['forward_milliseconds']:.1f} ms, ratio {ratios[1]:.2f} "
        f"({ratios[0]:.2f} to {ratios[2]:.2f})"
    )


def _contestants(
    path: Path, batch_size: int, sparsity: float, cores: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    step, data = training_step(path, batch_size, sparsity, cores)
    session = inference_session(str(path), cores)
    batch = next(batches_of(data, batch_size))
    return step, lambda: session.run(None, batch)


def training_step(
    path: Path, batch_size: int, sparsity: float, cores: int
) -> tuple[Callable[[], object], CalibrationData]:
    """Return a step of the default recipe, the making of its batch included, and the data."""
    model = load_model(path)
    data = load_calibration_data(None, input_signature(model), num_samples=2 * batch_size)
    keys = [weight.key for weight in find_prunable(model) if weight.pruned]
    settings = load_recipe("unipts").training
    student = build_student(model, keys, data, settings, cores)
    weights = {name: student.tensors[name] for name in student.prunable}
    kept = ALLOCATORS["lamp"](Problem(weights, sparsity))
    settings = settings.model_copy(update={"batch_size": batch_size})
    trainer = Trainer(student, kept, data, settings, 0, replicas_for(batch_size, cores))
    rng = np.random.default_rng(0)

    def step() -> object:
        batch = data.augmented(rng.permutation(len(data))[:batch_size], rng)
        return trainer.step(student.tensors, batch, trainer.steps // 2)

    return step, data


def seconds(run: Callable[[], object]) -> float:
    """Return how long a run takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
