"""A CIFAR ResNet in torch, and what a method costs there: a training step, a search candidate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

__all__ = ["torch_candidate", "torch_step"]

CLASSES = 10
WIDTHS = (16, 32, 64)
TEMPERATURE = 4.0


def torch_step(
    depth: int,
    batch_size: int,
    sparsity: float,
    cores: int,
    channels_last: bool,
    features: int,
) -> Callable[[], object]:
    """Return a training step on random images: teacher, masks by magnitude, gradient, momentum SGD.

    With squared errors of the activations after so many blocks, ``features``, in the loss.
    """
    _begin(cores)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    teacher = ResNet(depth, features).eval().to(memory_format=layout)
    student = ResNet(depth, features).train().to(memory_format=layout)
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(2 * batch_size, 3, 32, 32)

    def step() -> float:
        batch = images[torch.randperm(len(images))[:batch_size]].to(memory_format=layout)
        with torch.no_grad():
            wanted, dense = teacher(batch)
        scores, inner = torch.func.functional_call(student, _masked(student, sparsity), (batch,))
        loss = TEMPERATURE**2 * functional.kl_div(
            functional.log_softmax(scores / TEMPERATURE, 1),
            functional.softmax(wanted / TEMPERATURE, 1),
            reduction="batchmean",
        )
        loss = loss + sum(functional.mse_loss(a, b) for a, b in zip(inner, dense, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def torch_candidate(
    depth: int, batch_size: int, samples: int, sparsity: float, cores: int
) -> Callable[[], object]:
    """Return what the published search does for each candidate, on so many random images.

    Masks, statistics of the normalisation estimated again, then the answers.
    """
    _begin(cores)
    network = ResNet(depth, 0)
    images = torch.randn(samples, 3, 32, 32)

    def score() -> float:
        answers = 0.0
        with torch.no_grad():
            pruned = _masked(network, sparsity)
            for training in (True, False):
                network.train(training)
                for batch in images.split(batch_size):
                    scores, _ = torch.func.functional_call(network, pruned, (batch,))
                    answers += float(scores.argmax(1).sum())
        return answers

    return score


def _begin(cores: int) -> None:
    torch.set_num_threads(cores)
    torch.manual_seed(0)


def _masked(network: ResNet, sparsity: float) -> dict[str, torch.Tensor]:
    pruned = {}
    for name, weight in network.named_parameters():
        if weight.ndim == 1:
            continue
        size = weight.detach().abs()
        threshold = size.flatten().kthvalue(max(1, int(sparsity * size.numel()))).values
        # straight through: the pruned weights get the gradient too
        pruned[name] = weight + (weight * (size > threshold) - weight).detach()
    return pruned


class Block(nn.Module):
    """Two convolutions and a shortcut without weights (He et al., option A)."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outs), nn.BatchNorm2d(outs)])
        self.wider, self.stride = outs - ins, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return activations (N, outs, H / stride, W / stride) of ``x`` (N, ins, H, W)."""
        y = functional.relu(self.norms[0](self.first(x)))
        y = self.norms[1](self.second(y))
        if self.wider:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.wider // 2, self.wider // 2))
        return functional.relu(y + x)


class ResNet(nn.Module):
    """A ResNet of ``depth`` layers; gives the activations after ``features`` of its blocks too."""

    def __init__(self, depth: int, features: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16))
        blocks, ins = [], 16
        for stage, outs in enumerate(WIDTHS):
            for index in range((depth - 2) // 6):
                blocks.append(Block(ins, outs, 2 if stage and not index else 1))
                ins = outs
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(WIDTHS[-1], CLASSES)
        self.taught = set(np.linspace(0, len(blocks) - 1, features).round().astype(int).tolist())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return scores (N, classes) and inner activations of ``x`` (N, 3, 32, 32)."""
        x = functional.relu(self.stem(x))
        inner = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taught:
                inner.append(x)
        return self.head(x.mean((2, 3))), inner
