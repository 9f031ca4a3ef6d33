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
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from training_step import seconds, training_step

from onnx_unipts.training.trainer import available_cores

CLASSES = 10
WIDTHS = (16, 32, 64)
TEMPERATURE = 4.0
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
    cores = available_cores()
    steps = {
        "own": training_step(model, batch_size, sparsity, cores)[0],
        "torch eager": _torch_step(depth, batch_size, sparsity, cores, channels_last=False),
        "torch channels-last": _torch_step(depth, batch_size, sparsity, cores, channels_last=True),
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


def _torch_step(
    depth: int, batch_size: int, sparsity: float, cores: int, channels_last: bool
) -> Callable[[], object]:
    try:
        import torch
    except ImportError as error:
        raise click.UsageError("torch is not installed: pip install torch") from error
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(cores)
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self, ins: int, outs: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
            self.second = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
            self.norms = nn.ModuleList([nn.BatchNorm2d(outs), nn.BatchNorm2d(outs)])
            self.wider, self.stride = outs - ins, stride

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = functional.relu(self.norms[0](self.first(x)))
            y = self.norms[1](self.second(y))
            if self.wider:  # the shortcut without weights of He et al., option A
                x = x[:, :, :: self.stride, :: self.stride]
                x = functional.pad(x, (0, 0, 0, 0, self.wider // 2, self.wider // 2))
            return functional.relu(y + x)

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16))
            blocks, ins = [], 16
            for stage, outs in enumerate(WIDTHS):
                for index in range((depth - 2) // 6):
                    blocks.append(Block(ins, outs, 2 if stage and not index else 1))
                    ins = outs
            self.blocks = nn.ModuleList(blocks)
            self.head = nn.Linear(WIDTHS[-1], CLASSES)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
            x = functional.relu(self.stem(x))
            inner = []
            taught = np.linspace(0, len(self.blocks) - 1, FEATURES).round()
            for index, block in enumerate(self.blocks):
                x = block(x)
                if index in taught:
                    inner.append(x)
            return self.head(x.mean((2, 3))), inner

    layout = torch.channels_last if channels_last else torch.contiguous_format
    teacher = ResNet().eval().to(memory_format=layout)
    student = ResNet().train().to(memory_format=layout)
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    weights = {n: p for n, p in student.named_parameters() if p.ndim > 1}
    images = torch.randn(2 * batch_size, 3, 32, 32)

    def masked() -> dict[str, torch.Tensor]:
        pruned = {}
        for name, weight in weights.items():
            size = weight.detach().abs()
            threshold = size.flatten().kthvalue(max(1, int(sparsity * size.numel()))).values
            # straight through: the pruned weights get the gradient too
            pruned[name] = weight + (weight * (size > threshold) - weight).detach()
        return pruned

    def step() -> float:
        batch = images[torch.randperm(len(images))[:batch_size]].to(memory_format=layout)
        with torch.no_grad():
            wanted, dense = teacher(batch)
        scores, inner = torch.func.functional_call(student, masked(), (batch,))
        loss = TEMPERATURE**2 * functional.kl_div(
            functional.log_softmax(scores / TEMPERATURE, 1),
            functional.softmax(wanted / TEMPERATURE, 1),
            reduction="batchmean",
        )
        loss = loss + sum(functional.mse_loss(a, b) for a, b in zip(inner, dense, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


if __name__ == "__main__":
    main()
