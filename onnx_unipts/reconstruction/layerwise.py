"""Reconstruction: layer after layer, the kept weights make up for the removed ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.progress import Progress
from onnx_unipts.reconstruction.class_scores import scoring_layers
from onnx_unipts.reconstruction.layer_fit import LayerFit
from onnx_unipts.reconstruction.linear_layer import linear_layers
from onnx_unipts.reconstruction.views import FittingRuns
from onnx_unipts.student import Student

__all__ = ["body_of", "reconstruct"]


def reconstruct(
    student: Student,
    kept: Mapping[str, int],
    data: CalibrationData,
    cores: int,
    progress: Progress,
    search_masks: bool = False,
    views: int = 1,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the student's tensors pruned and fitted, and the weights that were pruned only.

    In graph order, so that each layer is fitted to the inputs that the layers before it, already
    sparse, give it, and to the outputs of the dense model: post-training pruning by layer-wise
    calibration (Lazarevich et al., arXiv 2104.15023), as least squares. Pruned weights are zero.
    The statistics of normalisations are still the dense ones: `recalibrate` measures the others.

    Masks are those of the student's masking, or with ``search_masks`` those of `chosen_support`,
    with as many kept, wherever these do better on samples held out. Of images, ``views`` are looked
    at: as they are, and parts of them. Where what comes before a layer cannot be run, or memory
    does not suffice to fit it, or values are too large, it is pruned only.
    """
    tensors = dict(student.dense)
    masks = {n: student.masking.mask(n, tensors[n], kept[n]) for n in student.prunable}
    fit = LayerFit(student, FittingRuns(student, data, views), cores, search_masks)
    others = [name for name in student.prunable if name not in fit.layers]
    for name in others:
        tensors[name] = tensors[name] * masks[name]
    with progress.phase("reconstruction", len(fit.layers)) as phase:
        for name in fit.layers:
            phase.advance(1)
            try:
                tensors |= _finite(fit(name, masks[name], tensors))
            except UnsupportedModelError:
                tensors[name] = student.dense[name] * masks[name]
                others.append(name)
    return tensors, others


def _finite(fitted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if all(np.isfinite(tensor).all() for tensor in fitted.values()):
        return fitted
    raise UnsupportedModelError("the fit is not finite")


def body_of(student: Student) -> Student | None:
    """Return ``student`` as what comes before its scores learns, from inner values alone.

    From outputs it would learn the classes of the samples, and no others. Its normalisations keep
    their statistics, the layers that score classes stay as they are. None where anything but the
    scores of such layers is compared, where what enters one of them is not, or where nothing is
    left to train.
    """
    layers = linear_layers(student)
    scoring = scoring_layers(student, layers)
    still = {*scoring, *scoring.values()}
    trained = tuple(name for name in student.trained if name not in still)
    compared = {feature.value for feature in student.features}
    if len(scoring) < len(student.targets) or not trained:
        return None
    if any(layers[name].data not in compared for name in scoring):
        return None
    return replace(student, normalizations=(), targets=(), trained=trained)
