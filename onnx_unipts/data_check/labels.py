"""Doubts about the labels: off by one, out of range, or in another order."""

from __future__ import annotations

import math

import numpy as np

from onnx_unipts.data_check.look import Look
from onnx_unipts.targets import Target

__all__ = ["wrong_labels"]


def wrong_labels(look: Look, target: Target) -> list[str]:
    """Return the warning if the model answers as if the labels were others."""
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
