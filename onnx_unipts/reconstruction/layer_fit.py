"""Fitting one layer of a student to what it gives in the dense model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.reconstruction.class_scores import fitted_scores, rows_needed, scoring_layers
from onnx_unipts.reconstruction.least_squares import (
    ITERATIONS,
    PRIORS,
    Moments,
    Prior,
    Search,
    fitted,
    masked_least_squares,
)
from onnx_unipts.reconstruction.linear_layer import LinearLayer, linear_layers
from onnx_unipts.reconstruction.moments import student_runs
from onnx_unipts.reconstruction.pooling import layer_at_positions
from onnx_unipts.reconstruction.support import chosen_support
from onnx_unipts.reconstruction.walk import Walk
from onnx_unipts.student import Student

__all__ = ["LayerFit"]

Tensors = Mapping[str, np.ndarray]

# Of the solver, where it need not be exact.
FEW_ITERATIONS = 12
# What is assumed of the layers that score classes where none is chosen: see `class_scores`.
SCORES_PRIOR = Prior(0.01, weights=100.0)


class LayerFit:
    """Fits layers of ``student``, called in graph order.

    Attributes:
        layers: those that can be fitted, by the name of their weight, in graph order.
        scoring: those of them that score classes, with the name of their bias.
    """

    def __init__(
        self, student: Student, data: CalibrationData, cores: int, search_masks: bool
    ) -> None:
        """Fit on ``data``; with ``search_masks`` masks are those of `chosen_support` if better."""
        self.layers = linear_layers(student)
        self.scoring = scoring_layers(student, self.layers)
        self._student, self._search_masks = student, search_masks
        self._walk = Walk(student, list(student_runs(student, data)), cores)

    def __call__(self, name: str, mask: np.ndarray, tensors: Tensors) -> dict[str, np.ndarray]:
        """Return the weight called ``name``, zero where ``mask`` is False, and its bias if fitted.

        ``tensors`` are the student's, those of all layers before as they are to be. Raises
        `UnsupportedModelError` where the runtime cannot run these.
        """
        layer, dense = self.layers[name], self._student.dense[name]
        matrix, allowed = layer.matrix(dense), layer.matrix(mask)
        search = self._search(name, layer, int(mask.sum())) if self._search_masks else None
        found = {}
        if name in self.scoring:
            bias = self._student.dense[self.scoring[name]]
            most = rows_needed(len(matrix[0]))
            positions = None if search is None else self._positions(name, layer, tensors, most)
            x, y = self._walk.rows(name, layer, tensors, most)
            weights, moved = fitted_scores(
                matrix[0], bias.ravel(), allowed[0], x[0], y[0], search, positions
            )
            solution = weights[None]
            found[self.scoring[name]] = moved.reshape(bias.shape).astype(np.float32)
        else:
            moments = self._walk.moments(name, layer, tensors)
            solution = fitted(matrix, allowed, *moments, search)
        return found | {name: layer.tensor(solution, dense.shape).astype(np.float32)}

    def roughly(
        self, name: str, masks: Sequence[np.ndarray], tensors: Tensors
    ) -> list[dict[str, np.ndarray]]:
        """Return what calling gives under each of ``masks``, in less time: no choice of a prior."""
        layer, dense = self.layers[name], self._student.dense[name]
        matrix, bias = layer.matrix(dense), self.scoring.get(name)
        if bias is None:
            seen, held_out = self._walk.moments(name, layer, tensors)
            moments, prior, iterations = seen + held_out, PRIORS[1], FEW_ITERATIONS
        else:
            x, y = self._walk.rows(name, layer, tensors, rows_needed(len(matrix[0])))
            x, y = x.astype(np.float64), y.astype(np.float64)
            moments = Moments(y.swapaxes(1, 2) @ y, x.swapaxes(1, 2) @ y, y.shape[1])
            prior, iterations = SCORES_PRIOR, ITERATIONS
        found = []
        for mask in masks:
            allowed = layer.matrix(mask)
            solution = masked_least_squares(matrix, allowed, moments, prior, iterations)
            each = {name: layer.tensor(solution, dense.shape).astype(np.float32)}
            if bias is not None:
                missing = x[0].mean(axis=0) @ matrix[0].T - y[0].mean(axis=0) @ solution[0].T
                old = self._student.dense[bias]
                each[bias] = old + missing.reshape(old.shape).astype(np.float32)
            found.append(each)
        return found

    def _positions(
        self, name: str, layer: LinearLayer, tensors: Tensors, most: int
    ) -> np.ndarray | None:
        """Return about ``most`` rows of the student that ``layer`` takes the mean of, or None."""
        inner = layer_at_positions(self._student, name, layer)
        return None if inner is None else self._walk.rows(name, inner, tensors, most)[1][0]

    def _search(self, name: str, layer: LinearLayer, kept: int) -> Search:
        """Return the search for masks that the pattern allows the weight ``name``."""
        shape, masking = self._student.dense[name].shape, self._student.masking

        def choice(scores: np.ndarray) -> np.ndarray:
            return layer.matrix(masking.by_scores(name, layer.tensor(scores, shape), kept))

        return partial(chosen_support, choice=choice)
