"""Fitting one layer of a student to what it gives in the dense model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.reconstruction.class_scores import PRIORS as SCORES_PRIORS
from onnx_unipts.reconstruction.class_scores import (
    Train,
    fitted_scores,
    rows_needed,
    scoring_layers,
)
from onnx_unipts.reconstruction.class_training import is_too_large, trained_on_moved
from onnx_unipts.reconstruction.downstream import Downstream, find_downstream
from onnx_unipts.reconstruction.downstream_fit import fitted_downstream
from onnx_unipts.reconstruction.least_squares import (
    PRIORS,
    Prior,
    Search,
    fitted,
    masked_least_squares,
)
from onnx_unipts.reconstruction.linear_layer import LinearLayer, linear_layers
from onnx_unipts.reconstruction.moments import have_room, moments_bytes
from onnx_unipts.reconstruction.pooling import layer_at_positions
from onnx_unipts.reconstruction.support import chosen_support
from onnx_unipts.reconstruction.views import FittingRuns
from onnx_unipts.reconstruction.walk import LEAST_ROWS, ROWS_PER_INPUT, Rows, Walk
from onnx_unipts.student import Student

__all__ = ["LayerFit"]

Tensors = Mapping[str, np.ndarray]

# Of the solver, and of what is assumed of a layer that scores classes, where it need not be exact.
FEW_ITERATIONS = 12
FEW_PRIORS = (SCORES_PRIORS[0], SCORES_PRIORS[3])
# Bytes that the rows of a layer may take, in one of the models.
ROWS_MEMORY = 1 << 29


class LayerFit:
    """Fits layers of ``student``, called in graph order.

    Attributes:
        layers: those that can be fitted, by the name of their weight, in graph order.
        scoring: those of them that score classes, with the name of their bias.
    """

    def __init__(self, student: Student, runs: FittingRuns, cores: int, search_masks: bool) -> None:
        """Fit on ``runs``, what dense model and student are fed.

        With ``search_masks`` masks are those of `chosen_support` if better.
        """
        self.layers = linear_layers(student)
        self.scoring = scoring_layers(student, self.layers)
        self._student, self._search_masks = student, search_masks
        self._walk = Walk(student, runs, cores)
        self._downstream = find_downstream(student, self.layers)

    def __call__(self, name: str, mask: np.ndarray, tensors: Tensors) -> dict[str, np.ndarray]:
        """Return the weight called ``name``, zero where ``mask`` is False, and biases if fitted.

        ``tensors`` are the student's, those of all layers before as they are to be. Raises
        `UnsupportedModelError` where the runtime cannot run these, or memory does not suffice.
        """
        layer, dense = self.layers[name], self._student.dense[name]
        self._require_room(name, layer.matrix(dense))
        search = self._search(name, layer, int(mask.sum())) if self._search_masks else None
        if name in self.scoring:
            train = None if is_too_large(layer.matrix(dense)[0]) else trained_on_moved
            positions = self._positions(name, layer, tensors) if search or train else None
            rows = self._rows(name, layer, tensors)
            return self._scores(name, mask, rows, search, positions, train=train)
        if name in self._downstream and self._most_rows(layer.matrix(dense)):
            return self._through(name, mask, tensors, search)
        moments = self._walk.moments(name, layer, tensors)
        solution = fitted(layer.matrix(dense), layer.matrix(mask), *moments, search)
        return {name: layer.tensor(solution, dense.shape).astype(np.float32)}

    def roughly(
        self, name: str, masks: Sequence[np.ndarray], tensors: Tensors
    ) -> list[dict[str, np.ndarray]]:
        """Return about what calling gives under each of ``masks``, in less time.

        With little choice, and fitted to what the layer gives, not to what comes of it.
        """
        layer, dense = self.layers[name], self._student.dense[name]
        self._require_room(name, layer.matrix(dense))
        if name in self.scoring:
            rows = self._rows(name, layer, tensors)
            return [self._scores(name, mask, rows, priors=FEW_PRIORS) for mask in masks]
        seen, held_out = self._walk.moments(name, layer, tensors)
        solutions = (
            masked_least_squares(
                layer.matrix(dense), layer.matrix(mask), seen + held_out, PRIORS[1], FEW_ITERATIONS
            )
            for mask in masks
        )
        return [{name: layer.tensor(each, dense.shape).astype(np.float32)} for each in solutions]

    @staticmethod
    def _require_room(name: str, matrix: np.ndarray) -> None:
        """Raise `UnsupportedModelError` where the inputs of a layer are too many to be fitted."""
        groups, _, inputs = matrix.shape
        if not have_room(moments_bytes(inputs, groups)):
            raise UnsupportedModelError(f"{name}: {inputs} inputs are too many to be fitted")

    @staticmethod
    def _most_rows(matrix: np.ndarray) -> int:
        """Return how many rows of a layer there is memory for, 0 where these are too few."""
        groups, outputs, inputs = matrix.shape
        most = ROWS_MEMORY // (matrix.itemsize * groups * max(outputs, inputs))
        return 0 if most < ROWS_PER_INPUT * inputs else max(most, 2 * LEAST_ROWS)

    def _through(
        self, name: str, mask: np.ndarray, tensors: Tensors, search: Search | None
    ) -> dict[str, np.ndarray]:
        """Return weight and bias of a layer and its normalisation, fitted to what comes of it."""
        layer, dense, behind = self.layers[name], self._student.dense, self._downstream[name]
        matrix, norm = layer.matrix(dense[name]), behind.normalization
        added = behind.added if self._walk.made_before(behind.added, name) else ""

        def solve(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
            made_up_for = rows.dense_beside or not behind.added
            fit_to = behind if made_up_for else Downstream(norm)
            scale, bias = dense[norm.scale], dense[norm.bias]
            return fitted_downstream(matrix, layer.matrix(mask), rows, fit_to, scale, bias, search)

        most = self._most_rows(matrix)
        weights, bias = self._walk.solved(solve, name, layer, tensors, most, added)
        return {
            name: layer.tensor(weights, dense[name].shape).astype(np.float32),
            norm.bias: bias.astype(np.float32),
        }

    def _scores(
        self,
        name: str,
        mask: np.ndarray,
        rows: tuple[np.ndarray, np.ndarray, int],
        search: Search | None = None,
        positions: np.ndarray | None = None,
        priors: Sequence[Prior] = SCORES_PRIORS,
        train: Train | None = None,
    ) -> dict[str, np.ndarray]:
        """Return weight and bias of a layer that scores classes, fitted to ``rows``."""
        layer, dense = self.layers[name], self._student.dense
        bias = self.scoring[name]
        weights, moved = fitted_scores(
            layer.matrix(dense[name])[0],
            dense[bias].ravel(),
            layer.matrix(mask)[0],
            *rows,
            search,
            positions,
            priors,
            train,
        )
        weight = layer.tensor(weights[None], dense[name].shape)
        return {
            name: weight.astype(np.float32),
            bias: moved.reshape(dense[bias].shape).astype(np.float32),
        }

    def _rows(
        self, name: str, layer: LinearLayer, tensors: Tensors
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Return rows (rows, K) that enter ``layer`` in dense model and student.

        And how many come before those that are held out.
        """
        most = rows_needed(self._student.dense[self.scoring[name]].size)
        rows = self._walk.rows(name, layer, tensors, most)
        held_out = np.concatenate(rows.held_out)
        order = np.argsort(held_out, kind="stable")
        x, y = (np.concatenate(part, axis=1)[0][order] for part in (rows.dense, rows.sparse))
        return x, y, int(np.count_nonzero(~held_out))

    def _positions(self, name: str, layer: LinearLayer, tensors: Tensors) -> np.ndarray | None:
        """Return rows of the student that ``layer`` takes the mean of, None where there are none.

        So it is where the walk has gone past them, to another layer that takes the mean.
        """
        inner = layer_at_positions(self._student, name, layer)
        if inner is None:
            return None
        try:
            rows = self._rows(name, inner, tensors)[1]
        except UnsupportedModelError:
            return None
        inputs = layer.matrix(self._student.dense[name]).shape[-1]
        return rows if rows.shape[-1] == inputs else None

    def _search(self, name: str, layer: LinearLayer, kept: int) -> Search:
        """Return the search for masks that the pattern allows the weight ``name``."""
        shape, masking = self._student.dense[name].shape, self._student.masking

        def choice(scores: np.ndarray) -> np.ndarray:
            return layer.matrix(masking.by_scores(name, layer.tensor(scores, shape), kept))

        return partial(chosen_support, choice=choice)
