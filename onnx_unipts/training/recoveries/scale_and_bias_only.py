"""Recovery by normalisations and biases alone."""

from __future__ import annotations

from onnx_unipts.student import Student
from onnx_unipts.training.recoveries.static_mask import StaticMask
from onnx_unipts.training.recovery import RECOVERIES


@RECOVERIES.register("scale-and-bias-only")
class ScaleAndBiasOnly(StaticMask):
    """Weights stay as they are, pruned; scales and biases train.

    PERP (Zimmer et al., arXiv 2312.15230): a small share of the parameters recovers most of the
    accuracy, at less time and memory.
    """

    @classmethod
    def trained(cls, student: Student) -> tuple[str, ...]:
        """Return the scales and biases."""
        return tuple(name for name in student.trained if name not in student.prunable)
