"""Reconstruction: layer after layer, the kept weights make up for the removed ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.progress import Progress
from onnx_unipts.reconstruction.class_scores import fitted_scores, rows_needed, scoring_layers
from onnx_unipts.reconstruction.least_squares import Search, fitted
from onnx_unipts.reconstruction.linear_layer import LinearLayer, linear_layers
from onnx_unipts.reconstruction.moments import student_runs
from onnx_unipts.reconstruction.support import chosen_support
from onnx_unipts.reconstruction.walk import Walk
from onnx_unipts.student import Student

__all__ = ["reconstruct"]


def reconstruct(
    student: Student,
    kept: Mapping[str, int],
    data: CalibrationData,
    cores: int,
    progress: Progress,
    search_masks: bool = False,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the student's tensors pruned and fitted, and the weights that were pruned only.

    In graph order, so that each layer is fitted to the inputs that the layers before it, already
    sparse, give it, and to the outputs of the dense model: post-training pruning by layer-wise
    calibration (Lazarevich et al., arXiv 2104.15023), as least squares. Pruned weights are
    zero. Masks are those of the student's masking, or with ``search_masks`` those of
    `chosen_support`, with as many kept, wherever these do better on samples held out. Where the
    runtime cannot run what comes before a layer, it is pruned only.
    """
    tensors = dict(student.dense)
    masks = {n: student.masking.mask(n, tensors[n], kept[n]) for n in student.prunable}
    layers = linear_layers(student)
    biases = scoring_layers(student, layers)
    others = [name for name in student.prunable if name not in layers]
    for name in others:
        tensors[name] = tensors[name] * masks[name]
    walk = Walk(student, list(student_runs(student, data)), cores)
    with progress.phase("reconstruction", len(layers)) as phase:
        for name, layer in layers.items():
            phase.advance(1)
            dense = student.dense[name]
            weight, mask = layer.matrix(dense), layer.matrix(masks[name])
            search = _search(student, name, layer, kept[name]) if search_masks else None
            try:
                if name in biases:
                    x, y = walk.rows(name, layer, tensors, rows_needed(len(weight[0])))
                    bias = student.dense[biases[name]]
                    scores, moved = fitted_scores(
                        weight[0], bias.ravel(), mask[0], x[0], y[0], search
                    )
                    matrix = scores[None]
                    tensors[biases[name]] = moved.reshape(bias.shape).astype(np.float32)
                else:
                    matrix = fitted(weight, mask, *walk.moments(name, layer, tensors), search)
            except UnsupportedModelError:
                tensors[name] = dense * masks[name]
                others.append(name)
                continue
            tensors[name] = layer.tensor(matrix, dense.shape).astype(np.float32)
    return tensors, others


def _search(student: Student, name: str, layer: LinearLayer, kept: int) -> Search:
    """Return the search for masks that the pattern of ``student`` allows the weight ``name``."""
    shape = student.dense[name].shape

    def choice(scores: np.ndarray) -> np.ndarray:
        return layer.matrix(student.masking.by_scores(name, layer.tensor(scores, shape), kept))

    return partial(chosen_support, choice=choice)
