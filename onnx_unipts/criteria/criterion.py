"""What every criterion is given, and the two kinds of scores that criteria make of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph.registry import Registry
from onnx_unipts.patterns.masking import Scores
from onnx_unipts.recipe import Training
from onnx_unipts.student import Student

__all__ = ["CRITERIA", "Evidence", "FixedScores", "ScaledMagnitude", "warn_of_others"]


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at: the dense model as a student, and calibration data.

    ``warn`` takes a sentence for the user.
    """

    student: Student
    data: CalibrationData
    settings: Training
    seed: int
    cores: int
    warn: Callable[[str], None]


# A criterion measures once, on the dense model, and returns the scores of any values of a weight.
CRITERIA: Registry[Callable[[Evidence], Scores]] = Registry("criterion", "onnx_unipts.criteria")


@dataclass(frozen=True)
class ScaledMagnitude:
    """Magnitude times a factor per weight, input or output; ``factors`` broadcast to the weights.

    Weights without factors go by their magnitude.
    """

    factors: Mapping[str, np.ndarray]

    def __call__(self, name: str, tensor: np.ndarray) -> np.ndarray:
        """Return the scores of ``tensor``, the weight called ``name``."""
        magnitude = np.abs(tensor)
        return magnitude * self.factors[name] if name in self.factors else magnitude


@dataclass(frozen=True)
class FixedScores:
    """Scores that no longer depend on the weights: masks made of them never move."""

    scores: Mapping[str, np.ndarray]

    def __call__(self, name: str, tensor: np.ndarray) -> np.ndarray:
        """Return the scores of the weight called ``name``."""
        return self.scores[name]


def warn_of_others(evidence: Evidence, known: Collection[str]) -> None:
    """Tell which weights go by magnitude, because what enters them cannot be measured."""
    others = [name for name in evidence.student.prunable if name not in known]
    if others:
        evidence.warn(f"inputs cannot be measured, magnitude decides: {', '.join(others)}")
