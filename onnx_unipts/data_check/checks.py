"""The checks of the dense model's answers, from the cheapest on."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.data_check.labels import wrong_labels
from onnx_unipts.data_check.look import Look
from onnx_unipts.data_check.outputs import (
    better_alternative,
    constant_outputs,
    poor_scores,
    rise_together,
    unlike_scores,
)
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.targets import Target

__all__ = ["check_outputs", "holds_scores"]

LEAST_SAMPLES = 16  # fewer say nothing about a distribution


def check_outputs(
    session: onnxruntime.InferenceSession, targets: Sequence[Target], data: CalibrationData
) -> list[str]:
    """Return warnings about the dense model's outputs on a few samples of ``data``.

    ``session`` runs the dense model. The cost is a few hundred inferences at most.
    """
    look = Look(session, targets, data)
    if look.count < 2:
        return []
    target = next((t for t in targets if t.kind == "classes"), None)
    found = constant_outputs(look, targets)
    if found or target is None or look.count < LEAST_SAMPLES:
        return found
    if data.labels is not None:
        found += wrong_labels(look, target)
    return found + (
        better_alternative(look, target) or poor_scores(look, target) or unlike_scores(look, target)
    )


def holds_scores(
    session: onnxruntime.InferenceSession, targets: Sequence[Target], data: CalibrationData
) -> bool:
    """Tell whether an output is compared as scores of classes, and looks like them on ``data``."""
    classes = [target for target in targets if target.kind == "classes"]
    if not classes:
        return False
    outputs = Look(session, classes, data).outputs()
    return any(not rise_together(target, outputs[target.measured]) for target in classes)
