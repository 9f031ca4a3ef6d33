"""Doubts about the samples: outputs that are constant, hardly sure, or surer with others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_unipts.calibration.alternatives import Alternative
from onnx_unipts.data_check.belief import Belief
from onnx_unipts.data_check.look import Look
from onnx_unipts.targets import Target

__all__ = [
    "better_alternative",
    "constant_outputs",
    "poor_scores",
    "rise_together",
    "unlike_scores",
]

# Measured on ResNet-20 and MobileNetV2: right preprocessing was never doubted, wrong ranges were
# found in nearly all, swapped channels (which cost them 5 and 12 points) in most random subsets.
SUSPICIOUS, CERTAIN = 1.0, 3.0  # standard errors
LEAST_GAIN = 0.03  # nats
# The share of the variance of scores that their mean has: 0.000 to 0.004 in ResNet-20, MobileNetV2
# and the digits, 0.24 to 0.90 in four regressions.
IN_COMMON = 0.1
FEWEST_CLASSES = 3


def constant_outputs(look: Look, targets: Sequence[Target]) -> list[str]:
    """Return the warning if an output is not finite, or the same for all samples."""
    outputs = look.outputs()
    for target in targets:
        values = outputs[target.measured].astype(np.float64)
        if not np.isfinite(values).all():
            return [
                f"the dense model's output {target.output!r} is not finite on this data; "
                f"{look.causes}"
            ]
        if np.ptp(values, axis=0).max(initial=0) <= 1e-6 * np.abs(values).max(initial=0):
            return [
                f"the dense model's output {target.output!r} is the same for all of {look.count} "
                f"samples; {look.causes}"
            ]
    return []


def poor_scores(look: Look, target: Target) -> list[str]:
    """Return the warning if the model answers one class for all samples, or is hardly sure."""
    belief = look.belief(target)
    if belief.classes < 3 or belief.answers.ndim > 1:
        return []
    name = target.output
    otherwise = f"; if {name!r} holds no scores of classes, compress with --loss {name}=mse"
    if len(np.unique(belief.answers)) == 1:
        return [
            f"the dense model answers class {belief.answers[0]} for all of {look.count} samples; "
            f"{look.causes}{otherwise}"
        ]
    if belief.entropy.mean() > 0.95 * np.log(belief.classes):
        confidence = np.exp(belief.logarithms.max(axis=-1)).mean()
        return [
            f"the dense model is hardly surer than chance: its top class gets {confidence:.1%} in "
            f"the mean, of {belief.classes} classes; {look.causes}{otherwise}"
        ]
    return []


def unlike_scores(look: Look, target: Target) -> list[str]:
    """Return the warning if what counts as scores of classes rises and falls together.

    Softmax does not see that, so that training by it leaves what all scores have in common alone.
    """
    if not rise_together(target, look.outputs()[target.measured]):
        return []
    name = target.output
    return [
        f"output {name!r} is compared as scores of classes, but its values rise and fall together "
        f"from sample to sample, as those of classes do not; if they are something else, compress "
        f"with --loss {name}=mse"
    ]


def rise_together(target: Target, scores: np.ndarray) -> bool:
    """Tell whether the values of an output rise and fall together, as no scores of classes do."""
    if target.closing or target.inner or scores.ndim != 2 or scores.shape[1] < FEWEST_CLASSES:
        return False
    scores = scores.astype(np.float64)
    return bool(scores.mean(axis=1).var() > IN_COMMON * scores.var())


def better_alternative(look: Look, target: Target) -> list[str]:
    """Say with which other preparation the model would be surer, if the difference is beyond doubt.

    First all of them on few samples, then the best one on more: that with which most answers are
    right, where there are labels, and the surest of these.
    """
    given = look.belief(target)
    gains: dict[str, tuple[float, float]] = {}
    for remedy, other in look.others.items():
        belief = look.belief(target, other=other)
        gain, errors = _gain(given, belief, other)
        if gain > LEAST_GAIN and errors > SUSPICIOUS:
            gains[remedy] = (_share_right(look, belief) or 0.0, gain)
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


def _gain(given: Belief, found: Belief, other: Alternative) -> tuple[float, float]:
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


def _share_right(look: Look, belief: Belief) -> float | None:
    labels = look.labels(len(belief.answers))
    if labels is None or belief.answers.ndim > 1:
        return None
    return float((belief.answers == labels).mean())
