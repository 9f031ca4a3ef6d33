"""A look at the dense model's answers on the data, before anything long: do they make sense?

What is wrong with data shows in the outputs of the model that it is for: a model fed with a wrong
range, swapped channels or another order of labels is less sure, answers one class, or seldom
rightly. All of this only warns; nothing is chosen by it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.calibration.alternatives import Alternative, alternatives
from onnx_unipts.evaluation import run_samples
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.targets import Target, choose_targets, log_softmax
from onnx_unipts.training.ort import file_session

__all__ = ["check_file", "check_outputs", "value_ranges"]

FEW = 128
CONFIRMING = 4  # times as many samples confirm what few ones suggest
LARGE_INPUT = 3 * 64 * 64  # numbers; of larger inputs a quarter as many are looked at
LARGEST_INPUTS = 2**24  # numbers of all samples whose range is shown
LARGEST_OUTPUTS = 2**25  # numbers held of all samples: maps of classes and vocabularies are large
LEAST_SAMPLES = 16  # fewer say nothing about a distribution
# Measured on ResNet-20 and MobileNetV2: right preprocessing was never doubted, wrong ranges were
# found in nearly all, swapped channels (which cost them 5 and 12 points) in most random subsets.
SUSPICIOUS, CERTAIN = 1.0, 3.0  # standard errors
LEAST_GAIN = 0.03  # nats
SHARPEST, SHARPENING_STEPS = 1e4, 30


def value_ranges(data: CalibrationData) -> list[str]:
    """Return a line on each input: its shape, and which values a few samples hold."""
    largest = max(values.size for values in data.batch(np.arange(1)).values())
    batch = data.batch(_spread(len(data), max(1, min(FEW, LARGEST_INPUTS // max(largest, 1)))))
    return [f"  {name}: {_range(values)}" for name, values in batch.items()]


def _spread(total: int, count: int) -> np.ndarray:
    """Return ``count`` indices below ``total``, int64, evenly spread, or all of them."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))


def check_file(
    path: str | os.PathLike[str], model: ir.Model, data: CalibrationData, threads: int
) -> list[str]:
    """Return the warnings of `check_outputs` for the model file at ``path``, read as ``model``."""
    try:
        targets = choose_targets(model)
    except UnsupportedModelError:
        return []  # whoever compresses the model says so
    return check_outputs(file_session(path, threads, targets), targets, data)


def check_outputs(
    session: onnxruntime.InferenceSession, targets: Sequence[Target], data: CalibrationData
) -> list[str]:
    """Return warnings about the dense model's outputs on a few samples of ``data``.

    ``session`` runs the dense model. The cost is a few hundred inferences at most.
    """
    look = _Look(session, targets, data)
    if look.count < 2:
        return []
    target = next((t for t in targets if t.kind == "classes"), None)
    found = _constant_outputs(look, targets)
    if found or target is None or look.count < LEAST_SAMPLES:
        return found
    if data.labels is not None:
        found += _wrong_labels(look, target)
    return found + (_better_alternative(look, target) or _poor_scores(look, target))


class _Look:
    """Runs the dense model on evenly spread samples, prepared as they are or otherwise."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        targets: Sequence[Target],
        data: CalibrationData,
    ) -> None:
        self._session = session
        self._names = list(dict.fromkeys(target.measured for target in targets))
        self._data = data
        first = data.batch(np.arange(1))
        largest = max(math.prod(values.shape[1:]) for values in first.values())
        outputs = sum(values.size for values in run_samples(session, self._names, first))
        count = FEW if largest <= LARGE_INPUT else FEW // 4
        self.count = min(count, len(data), LARGEST_OUTPUTS // max(outputs, 1) // CONFIRMING)
        self._seen: dict[int, dict[str, np.ndarray]] = {}

    @property
    def more(self) -> int:
        """The number of samples that confirms what `count` of them suggest."""
        return min(CONFIRMING * self.count, len(self._data))

    @property
    def others(self) -> dict[str, Alternative]:
        """What else the images could be, by the remedy."""
        return alternatives(self._data)

    @property
    def range_of_labels(self) -> tuple[int, int]:
        """The smallest and the largest label, (0, 0) without labels."""
        labels = self._data.labels
        return (0, 0) if labels is None else (int(labels.min()), int(labels.max()))

    def labels(self, count: int) -> np.ndarray | None:
        """Return the labels of the samples of `outputs`."""
        labels = self._data.labels
        return None if labels is None else labels[_spread(len(self._data), count)]

    def outputs(self, count: int = 0, other: Alternative | None = None) -> dict[str, np.ndarray]:
        """Return the outputs by name on ``count`` samples, on `count` of them if 0."""
        count = count or self.count
        if other is None and count in self._seen:
            return self._seen[count]
        parts = []
        rows = _spread(len(self._data), count)
        for start in range(0, len(rows), self.count):
            batch = self._data.batch(rows[start : start + self.count])
            if other is not None:
                batch = {name: other.prepare(values) for name, values in batch.items()}
            parts.append(run_samples(self._session, self._names, batch))
        joined = [np.concatenate(values) for values in zip(*parts, strict=True)]
        outputs = dict(zip(self._names, joined, strict=True))
        if other is None:
            self._seen[count] = outputs
        return outputs

    def belief(self, target: Target, count: int = 0, other: Alternative | None = None) -> _Belief:
        """Return what the model believes about the samples."""
        scores = target.scores(self.outputs(count, other)[target.measured]).astype(np.float64)
        return _Belief(log_softmax(np.moveaxis(scores, target.axis, -1)))


@dataclass(frozen=True)
class _Belief:
    """Logarithms of class probabilities, float64 (samples, ..., classes)."""

    logarithms: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.logarithms.shape[-1])

    @property
    def answers(self) -> np.ndarray:
        """The top class, int64 (samples, ...)."""
        return self.logarithms.argmax(axis=-1)

    @property
    def entropy(self) -> np.ndarray:
        """The entropy of each sample in nats, float64 (samples,)."""
        each = -(np.exp(self.logarithms) * self.logarithms).sum(axis=-1)
        return each.reshape(len(each), -1).mean(axis=1)

    @property
    def information(self) -> np.ndarray:
        """What each answer tells: sure of itself and different from the others; float64 (samples,).

        Their mean is the mutual information of sample and class in nats (Krause, Perona and Gomes,
        Discriminative clustering by regularized information maximization, NIPS 2010). Entropy alone
        would favour a range that saturates the model.
        """
        probability = np.exp(self.logarithms)
        mean = probability.reshape(-1, self.classes).mean(axis=0)
        each = (probability * (self.logarithms - np.log(mean + 1e-30))).sum(axis=-1)
        return each.reshape(len(each), -1).mean(axis=1)

    def sharpened(self, entropy: float) -> _Belief:
        """Return the belief at the temperature, of 1 at most, that has that mean entropy."""
        low, high = 1.0, SHARPEST
        if self.entropy.mean() <= entropy:
            return self
        for _ in range(SHARPENING_STEPS):
            middle = math.sqrt(low * high)
            if self._at(middle).entropy.mean() > entropy:
                low = middle
            else:
                high = middle
        return self._at(high)

    def _at(self, factor: float) -> _Belief:
        return _Belief(log_softmax(factor * self.logarithms))


def _constant_outputs(look: _Look, targets: Sequence[Target]) -> list[str]:
    outputs = look.outputs()
    for target in targets:
        values = outputs[target.measured].astype(np.float64)
        if not np.isfinite(values).all():
            return [
                f"the dense model's output {target.output!r} is not finite on this data; {_CAUSES}"
            ]
        if np.ptp(values, axis=0).max(initial=0) <= 1e-6 * np.abs(values).max(initial=0):
            return [
                f"the dense model's output {target.output!r} is the same for all of {look.count} "
                f"samples; {_CAUSES}"
            ]
    return []


_CAUSES = (
    "likely causes are a wrong range of values (--preprocessing, --mean, --std), a wrong order of "
    "channels (--channel-order), a wrong layout (--layout), or samples that are all alike"
)


def _poor_scores(look: _Look, target: Target) -> list[str]:
    belief = look.belief(target)
    if belief.classes < 3 or belief.answers.ndim > 1:
        return []
    if len(np.unique(belief.answers)) == 1:
        return [
            f"the dense model answers class {belief.answers[0]} for all of {look.count} samples; "
            f"{_CAUSES}"
        ]
    if belief.entropy.mean() > 0.95 * np.log(belief.classes):
        confidence = np.exp(belief.logarithms.max(axis=-1)).mean()
        return [
            f"the dense model is hardly surer than chance: its top class gets {confidence:.1%} in "
            f"the mean, of {belief.classes} classes; {_CAUSES}"
        ]
    return []


def _better_alternative(look: _Look, target: Target) -> list[str]:
    """Say with which other preparation the model would be surer, if the difference is beyond doubt.

    First all of them on few samples, then the best one on more.
    """
    given = look.belief(target)
    gains: dict[str, float] = {}
    for remedy, other in look.others.items():
        gain, errors = _gain(given, look.belief(target, other=other), other)
        if gain > LEAST_GAIN and errors > SUSPICIOUS:
            gains[remedy] = gain
    if not gains:
        return []
    best = max(gains, key=lambda remedy: gains[remedy])
    given = look.belief(target, look.more)
    belief = look.belief(target, look.more, look.others[best])
    gain, errors = _gain(given, belief, look.others[best])
    before, after = (_share_right(look, each) for each in (given, belief))
    if gain <= LEAST_GAIN or errors <= CERTAIN or (before or 0) > (after or 0):
        return []
    right = "" if before is None else f", and right on {after:.0%} instead of {before:.0%}"
    confidence = [np.exp(each.logarithms.max(axis=-1)).mean() for each in (belief, given)]
    classes = [len(np.unique(each.answers)) for each in (belief, given)]
    return [
        f"the dense model makes more of the data with {best}: on {look.more} samples it answers "
        f"{classes[0]} classes instead of {classes[1]}, with a confidence of {confidence[0]:.0%} "
        f"instead of {confidence[1]:.0%}{right}; is the preprocessing right?"
    ]


def _gain(given: _Belief, found: _Belief, other: Alternative) -> tuple[float, float]:
    """Return the gain in information from ``given`` to what was ``found`` with ``other`` inputs.

    In nats and standard errors. Where the values have another scale, both are made as sure as the
    surer one is: larger inputs alone make larger scores, and surer answers that are the same.
    """
    if other.rescales:
        entropy = min(float(belief.entropy.mean()) for belief in (given, found))
        given, found = given.sharpened(entropy), found.sharpened(entropy)
    gains = found.information - given.information
    error = gains.std() / math.sqrt(len(gains))
    return float(gains.mean()), float(gains.mean() / (error + 1e-12))


def _share_right(look: _Look, belief: _Belief) -> float | None:
    labels = look.labels(len(belief.answers))
    if labels is None or belief.answers.ndim > 1:
        return None
    return float((belief.answers == labels).mean())


def _wrong_labels(look: _Look, target: Target) -> list[str]:
    belief = look.belief(target, look.more)
    labels = look.labels(look.more)
    if labels is None or belief.answers.ndim > 1:
        return []
    right = {shift: float((belief.answers == labels + shift).mean()) for shift in (0, 1, -1)}
    shift = max((1, -1), key=lambda s: right[s])
    chance = 1 / belief.classes
    spread = math.sqrt(0.25 / len(labels))
    if right[shift] > max(2 * right[0], 3 * chance) and right[shift] - right[0] > 3 * spread:
        done = "1 added to" if shift == 1 else "1 taken from"
        return [
            f"the labels are off by one: the dense model is right on {right[0]:.0%} of the "
            f"samples, and on {right[shift]:.0%} with {done} every label; {_LABELS}"
        ]
    low, high = look.range_of_labels
    if low < 0 or high >= belief.classes:
        return [
            f"the labels are {low} to {high}, but the dense model has {belief.classes} classes, 0 "
            f"to {belief.classes - 1}; {_LABELS}"
        ]
    classes = len(np.unique(labels))
    sure = belief.information.mean() > 0.5 * math.log(min(belief.classes, classes + 1))
    if sure and classes > 1 and right[0] < min(3 * chance, 0.5 - 3 * spread):
        return [
            f"the dense model is sure of its answers, but right on {right[0]:.0%} of the samples, "
            f"no better than chance: the labels are in another order than the model's; {_LABELS}"
        ]
    return []


_LABELS = (
    "name the subdirectories by the model's class numbers, give them in labels.csv, or correct the "
    "array of labels"
)


def _range(values: np.ndarray) -> str:
    axes = "x".join(map(str, values.shape[1:])) or "one number"
    text = f"{values.dtype} of {axes}"
    if values.dtype.kind == "O" or not values.size:
        return text
    if values.dtype.kind == "b":
        return f"{text}, {values.mean():.0%} true"
    wide = values.astype(np.float64)
    return (
        f"{text}, values {wide.min():.4g} to {wide.max():.4g}, mean {wide.mean():.4g}, standard "
        f"deviation {wide.std():.4g}"
    )
