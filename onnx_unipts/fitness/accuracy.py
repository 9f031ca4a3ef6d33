"""Fitness with labels, as in the paper: the share of samples classified rightly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_unipts.fitness.measure import FITNESS, Outputs
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.targets import Target

__all__ = ["ACCURACY", "require_labels"]

ACCURACY = "accuracy"


def require_labels(targets: Sequence[Target], labels: np.ndarray | None) -> Target:
    """Return the first target that holds class scores.

    Raises `UsageError` where there is none, or where there are no ``labels``.
    """
    classes = next((t for t in targets if t.kind == "classes"), None)
    if labels is not None and classes is not None:
        return classes
    missing = "labelled calibration data" if labels is None else "a model with class scores"
    raise UsageError(
        f"fitness accuracy needs {missing}; use --set allocation.search.fitness=divergence"
    )


@FITNESS.register(ACCURACY)
def accuracy(
    targets: Sequence[Target], dense: Outputs, sparse: Outputs, labels: np.ndarray | None
) -> float:
    """Return the top-1 accuracy of the first target that holds class scores."""
    classes = require_labels(targets, labels)
    predicted = sparse[classes.value].argmax(axis=classes.axis).reshape(-1)
    if labels is None or len(predicted) != len(labels):
        raise UsageError(
            "fitness accuracy needs one label for each answer; use --set "
            "allocation.search.fitness=divergence"
        )
    return float((predicted == labels).mean())
