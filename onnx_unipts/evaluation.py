"""Measuring a sparse model against its dense original: divergence, agreement, accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.targets import Target, divergence

__all__ = ["Accuracy", "Fidelity", "compare", "measure_accuracy", "wilson_interval"]

BATCH = 64


@dataclass(frozen=True)
class Fidelity:
    """How close a model is to the dense one on ``samples`` samples.

    ``divergence`` is summed over the targets (nats for class scores); ``agreement`` the share of
    samples with the same top class, None where no output holds class scores.
    """

    samples: int
    divergence: float
    agreement: float | None


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy: the share of ``samples`` classified rightly, with its 95 % interval."""

    samples: int
    correct: int

    @property
    def value(self) -> float:
        """The accuracy as a share."""
        return self.correct / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval."""
        return wilson_interval(self.correct, self.samples)


def wilson_interval(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the score interval of a share (Wilson, 1927), by default the one of 95 %."""
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def outputs_of(
    session: onnxruntime.InferenceSession, targets: Sequence[Target], data: CalibrationData
) -> dict[str, np.ndarray]:
    """Return the user's outputs of ``targets`` over all samples, by name, first axis samples."""
    names = [target.output for target in targets]
    known = {value.name for value in session.get_inputs()}
    collected: list[list[np.ndarray]] = []
    for start in range(0, len(data), BATCH):
        batch = data.batch(np.arange(start, min(start + BATCH, len(data))))
        feeds = {name: value for name, value in batch.items() if name in known}
        collected.append(session.run(names, feeds))
    return {
        name: np.concatenate(parts)
        for name, parts in zip(names, zip(*collected, strict=True), strict=True)
    }


def compare(
    targets: Sequence[Target], dense: dict[str, np.ndarray], sparse: dict[str, np.ndarray]
) -> Fidelity:
    """Compare the outputs of two models by name (see `outputs_of`)."""
    total = 0.0
    agreement = None
    for target in targets:
        ours, theirs = (_as_scores(target, outputs[target.output]) for outputs in (sparse, dense))
        total += divergence(target, theirs, ours)
        if target.kind == "classes" and agreement is None:
            same = ours.argmax(axis=target.axis) == theirs.argmax(axis=target.axis)
            agreement = float(same.mean())
    samples = len(next(iter(dense.values())))
    return Fidelity(samples, total, agreement)


def measure_accuracy(
    targets: Sequence[Target], outputs: dict[str, np.ndarray], labels: np.ndarray | None
) -> Accuracy | None:
    """Return the accuracy of the first output that holds class scores, None without labels."""
    classes = next((t for t in targets if t.kind == "classes"), None)
    if labels is None or classes is None:
        return None
    predicted = outputs[classes.output].argmax(axis=classes.axis).reshape(-1)
    if len(predicted) != len(labels):
        return None
    return Accuracy(len(labels), int((predicted == labels).sum()))


def _as_scores(target: Target, output: np.ndarray) -> np.ndarray:
    """Undo the closing Softmax or Sigmoid of a user's output: its scores up to a constant."""
    if target.value == target.output or target.kind == "values":
        return output
    probability = np.clip(output.astype(np.float64), 1e-12, 1.0)
    if target.kind == "classes":
        return np.log(probability)
    return np.log(probability) - np.log(np.clip(1.0 - probability, 1e-12, 1.0))


def file_bytes(path: Path) -> int:
    """Return the size of a model file, its external data included."""
    return path.stat().st_size
