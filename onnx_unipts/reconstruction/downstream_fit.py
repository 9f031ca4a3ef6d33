"""Fitting a layer to what comes of it: behind its normalisation, a sum and an activation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnx_unipts.reconstruction.downstream import Downstream
from onnx_unipts.reconstruction.least_squares import Moments, Search, chosen, masked_least_squares
from onnx_unipts.reconstruction.moments import product_of
from onnx_unipts.reconstruction.walk import Rows

__all__ = ["fitted_downstream"]

# How often a layer before an activation is fitted again, and iterations of the solver each time.
ROUNDS = 3
ITERATIONS = 20


def fitted_downstream(
    matrix: np.ndarray,
    mask: np.ndarray,
    rows: Rows,
    behind: Downstream,
    scale: np.ndarray,
    bias: np.ndarray,
    search: Search | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights, zero where ``mask`` is False, and the bias of the normalisation.

    ``matrix`` is W, (groups, outputs, K), as is ``mask`` (bool); ``scale`` and ``bias`` (channels,)
    are the dense normalisation's. Mask and prior are `chosen` without bounds. ``rows`` are used up.

    The normalisation takes away means and the bias restores them, so that only what varies is
    fitted. Where the value is added to another, the layer makes up for what that lacks in the
    student. And beyond the bounds of an activation it may give anything that stays beyond: so far
    the student's own values are the targets, in `ROUNDS`, each of which lowers a bound of the
    squared error behind the activation (majorisation, Lange et al., Optimization Transfer Using
    Surrogate Objective Functions, 2000). All that at the scale of the fit: the normalisation then
    makes its outputs vary as much as in the dense model, which on MobileNetV2 is better than to
    keep the scale as well (divergence 0.97 against 1.26).

    Float64 (groups, outputs, K) and (channels,).
    """
    layer = _Layer.of(matrix, rows, scale, bias, behind.normalization.epsilon)
    target = layer.wanted - layer.added
    seen, held_out = layer.moments(target)
    mask, prior = chosen(matrix, mask, seen, held_out, search)
    weights = masked_least_squares(matrix, mask, seen + held_out, prior)
    for _ in range(ROUNDS if behind.bounded else 0):
        made = layer.made(weights, target) + layer.added
        target = _within(behind, layer.wanted, made) - layer.added
        seen, held_out = layer.moments(target)
        weights = masked_least_squares(
            matrix, mask, seen + held_out, prior, ITERATIONS, start=weights
        )
    return weights, target.mean(axis=1, dtype=np.float64).ravel()


def _within(behind: Downstream, wanted: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Return what is ``wanted``, but where that is beyond a bound ``made`` as far as it is, too."""
    target = np.where(wanted <= behind.lowest, np.minimum(made, behind.lowest), wanted)
    return np.where(wanted >= behind.highest, np.maximum(made, behind.highest), target)


@dataclass(frozen=True)
class _Layer:
    """A layer on its rows.

    Attributes:
        entering: what enters in the student, less its mean, float32 (groups, rows, K).
        parts: the moments of the rows that are not held out, and of those that are.
        held_out: bool (rows,).
        unit: what the normalisation multiplies by in the dense model, (groups, 1, outputs).
        normalised: what it gives in the dense model, float32 (groups, rows, outputs).
        wanted: the sum of that and what is added to it, in the dense model.
        added: what is added to it in the student, or 0.
    """

    entering: np.ndarray
    parts: tuple[Moments, ...]
    held_out: np.ndarray
    unit: np.ndarray
    normalised: np.ndarray
    wanted: np.ndarray
    added: np.ndarray | float

    @classmethod
    def of(
        cls, matrix: np.ndarray, rows: Rows, scale: np.ndarray, bias: np.ndarray, epsilon: float
    ) -> _Layer:
        """Put together what `fitted_downstream` needs; ``rows`` are empty afterwards."""
        held_out = np.concatenate(rows.held_out)
        x, y = (_centred(_joined(part)) for part in (rows.dense, rows.sparse))
        parts = tuple(
            Moments(product_of(y[:, p], y[:, p]), product_of(x[:, p], y[:, p]), int(p.sum()))
            for p in (~held_out, held_out)
        )
        normalised = np.matmul(x, matrix.astype(np.float32).swapaxes(1, 2))
        del x
        shape = (len(matrix), 1, matrix.shape[1])
        variance = normalised.var(axis=1, keepdims=True)
        unit = scale.reshape(shape) / np.sqrt(variance + np.float32(epsilon))
        normalised *= unit
        normalised += bias.reshape(shape)
        if not rows.dense_beside:
            return cls(y, parts, held_out, unit, normalised, normalised, 0.0)
        wanted = _joined(rows.dense_beside)
        wanted += normalised
        return cls(y, parts, held_out, unit, normalised, wanted, _joined(rows.sparse_beside))

    def moments(self, target: np.ndarray) -> tuple[Moments, ...]:
        """Return `parts` where the normalisation shall give ``target``, up to its mean."""
        lacking = _centred(_ratio(target - self.normalised, self.unit))
        return tuple(
            replace(part, besides=product_of(lacking[:, p], self.entering[:, p]))
            for part, p in zip(self.parts, (~self.held_out, self.held_out), strict=True)
        )

    def made(self, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return what ``weights`` make of what enters, with the mean of ``target``."""
        given = np.matmul(self.entering, weights.astype(np.float32).swapaxes(1, 2))
        return self.unit * given + target.mean(axis=1, keepdims=True)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return what ``parts`` hold of all runs; they are empty afterwards."""
    joined = np.concatenate(parts, axis=1)
    parts.clear()
    return joined


def _centred(rows: np.ndarray) -> np.ndarray:
    """Return ``rows`` less their mean, in place."""
    rows -= rows.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    return rows


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return the quotient, 0 where nothing gets through."""
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
