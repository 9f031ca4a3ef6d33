"""Measuring a sparse model against its dense original: divergence, agreement, accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.targets import Target, divergence

__all__ = [
    "Accuracy",
    "Fidelity",
    "compare",
    "measure_accuracy",
    "outputs_of",
    "run_samples",
    "wilson_interval",
]

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
    # Rounding must not leave the share itself outside, at 0 and at 1.
    return max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)


def run_samples(
    session: onnxruntime.InferenceSession, names: Sequence[str], batch: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """Return the outputs ``names`` of a model file for a ``batch`` of any number of samples.

    A model whose inputs have a fixed first axis is run on as many samples at a time, at the end on
    some of the first ones again. Arrays that the model has no input for are left out.
    """
    inputs = session.get_inputs()
    feeds = {value.name: batch[value.name] for value in inputs if value.name in batch}
    count = len(next(iter(feeds.values())))
    size = _fixed_batch(inputs) or count
    if size == count:
        return list(session.run(names, feeds))
    parts = [
        session.run(names, {n: v.take(samples, axis=0, mode="wrap") for n, v in feeds.items()})
        for samples in (np.arange(start, start + size) for start in range(0, count, size))
    ]
    return [np.concatenate(outputs)[:count] for outputs in zip(*parts, strict=True)]


def _fixed_batch(inputs: Sequence[onnxruntime.NodeArg]) -> int | None:
    """Return the first axis of the inputs if it is one number, None where it is dynamic."""
    sizes = (value.shape[0] for value in inputs if value.shape)
    return next((size for size in sizes if isinstance(size, int) and size > 0), None)


def outputs_of(
    session: onnxruntime.InferenceSession, targets: Sequence[Target], data: CalibrationData
) -> dict[str, np.ndarray]:
    """Return the user's outputs of ``targets`` over all samples, by name, first axis samples."""
    names = [target.output for target in targets]
    slices = (np.arange(i, min(i + BATCH, len(data))) for i in range(0, len(data), BATCH))
    collected = [run_samples(session, names, data.batch(samples)) for samples in slices]
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
        ours, theirs = (target.scores(outputs[target.output]) for outputs in (sparse, dense))
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
    predicted = classes.scores(outputs[classes.output]).argmax(axis=classes.axis).reshape(-1)
    if len(predicted) != len(labels):
        return None
    return Accuracy(len(labels), int((predicted == labels).sum()))
