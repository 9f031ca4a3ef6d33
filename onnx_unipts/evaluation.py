"""Measuring a sparse model against its dense original: divergence, agreement, accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph.dynamic_batch import Batching
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.targets import Target, divergence

__all__ = [
    "Accuracy",
    "Fidelity",
    "batching_for",
    "compare",
    "measure_accuracy",
    "outputs_of",
    "run_samples",
    "wilson_interval",
]

BATCH = 64
# Large samples are run fewer at a time.
BATCH_BYTES = 2**25


@dataclass(frozen=True)
class Fidelity:
    """How close a model is to the dense one on ``samples`` samples.

    ``divergence`` is summed over the targets (nats for class scores); ``agreement`` the share of
    samples with the same top class, None where no output holds class scores. ``error`` is the
    length of the difference of the compared outputs relative to that of the dense model's, the mean
    over them.
    """

    samples: int
    divergence: float
    agreement: float | None
    error: float | None = None


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
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    batch: Mapping[str, np.ndarray],
    batching: Batching | None = None,
) -> list[np.ndarray]:
    """Return the outputs ``names`` of a model file for a ``batch`` of any number of samples.

    A model whose inputs have a fixed first axis is run on as many samples at a time, at the end on
    some of the first ones again, and one with an input without a sample axis on one at a time.
    Arrays that the model has no input for are left out.
    """
    known = {value.name for value in session.get_inputs()}
    feeds = {name: array for name, array in batch.items() if name in known}
    batching = batching_for(session, feeds, batching)
    runs = [session.run(names, run) for run in batching.runs(feeds)]
    return batching.joined(runs, len(next(iter(feeds.values()))))


def batching_for(
    session: onnxruntime.InferenceSession,
    batch: Mapping[str, np.ndarray],
    batching: Batching | None = None,
) -> Batching:
    """Return ``batching``, or what the shapes of the inputs in ``batch`` say where it is None."""
    if batching is not None:
        return batching
    inputs = [value for value in session.get_inputs() if value.name in batch]
    whole = frozenset(v.name for v in inputs if batch[v.name].ndim == len(v.shape) + 1)
    return Batching(1 if whole else _fixed_batch(inputs), whole)


def _fixed_batch(inputs: Sequence[onnxruntime.NodeArg]) -> int | None:
    """Return the first axis of the inputs if it is one number, None where it is dynamic."""
    sizes = (value.shape[0] for value in inputs if value.shape)
    return next((size for size in sizes if isinstance(size, int) and size > 0), None)


def outputs_of(
    session: onnxruntime.InferenceSession,
    targets: Sequence[Target],
    data: CalibrationData,
    batching: Batching | None = None,
) -> dict[str, np.ndarray]:
    """Return the user's outputs of ``targets`` over all samples, by name, first axis samples."""
    names = [target.measured for target in targets]
    size = max(1, min(BATCH, BATCH_BYTES // data.sample_bytes))
    slices = (np.arange(i, min(i + size, len(data))) for i in range(0, len(data), size))
    collected = [run_samples(session, names, data.batch(rows), batching) for rows in slices]
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
        ours, theirs = (target.scores(outputs[target.measured]) for outputs in (sparse, dense))
        total += divergence(target, theirs, ours)
        if target.kind == "classes" and agreement is None:
            same = ours.argmax(axis=target.axis) == theirs.argmax(axis=target.axis)
            agreement = float(same.mean())
    samples = len(next(iter(dense.values())))
    errors = [_relative_error(dense[t.measured], sparse[t.measured]) for t in targets]
    return Fidelity(samples, total, agreement, float(np.mean(errors)))


def _relative_error(dense: np.ndarray, sparse: np.ndarray) -> float:
    finite = np.isfinite(dense)
    dense, sparse = dense[finite].astype(np.float64), sparse[finite].astype(np.float64)
    length = float(np.linalg.norm(dense))
    return float(np.linalg.norm(sparse - dense)) / (length or 1.0)


def measure_accuracy(
    targets: Sequence[Target], outputs: dict[str, np.ndarray], labels: np.ndarray | None
) -> Accuracy | None:
    """Return the accuracy of the first output that holds class scores, None without labels."""
    classes = next((t for t in targets if t.kind == "classes"), None)
    if labels is None or classes is None:
        return None
    predicted = classes.scores(outputs[classes.measured]).argmax(axis=classes.axis).reshape(-1)
    if len(predicted) != len(labels):
        return None
    return Accuracy(len(labels), int((predicted == labels).sum()))
