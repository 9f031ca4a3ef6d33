"""From PyTorch: a network trained on handwritten digits, exported, and compressed.

Needs ``torch`` and ``scikit-learn`` beside onnx-unipts (``pip install torch scikit-learn``; torch
brings no onnxruntime, so both may share an environment). Writes into the directory given as its
argument.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

import onnx_unipts


def main(directory: Path) -> None:
    """Train, export, compress, and print the accuracies."""
    directory.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order, None] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    model = train(torch.from_numpy(images[500:]), torch.from_numpy(labels[500:]))
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, 8, 8),),
        str(directory / "digits.onnx"),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        dynamo=False,
    )
    result = onnx_unipts.compress(
        directory / "digits.onnx",
        sparsity=0.9,
        data={"image": images[500:]},
        eval_data={"image": images[:500], "labels": labels[:500]},
        settings={"training.epochs": 5},
    )
    accuracy = result.report["accuracy"]
    for stage in ("dense", "before_recovery", "after_recovery"):
        print(f"{stage}: accuracy {accuracy[stage]:.3f}")


def train(images: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    """Return a trained network, in evaluation mode."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(32),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, 3, padding=1, stride=2, bias=False),
        torch.nn.BatchNorm2d(64),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(1024, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    for _ in range(10):
        for picked in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[picked]), labels[picked]).backward()
            optimizer.step()
    return model.eval()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("pytorch-example"))
