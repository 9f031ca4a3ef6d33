"""Scoring one layer pruned to several levels and fitted, all other layers dense."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.distance import DivergenceFromDense
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.job import Job
from onnx_unipts.reconstruction import FittingRuns, LayerFit
from onnx_unipts.reconstruction.held_out import HELD_OUT
from onnx_unipts.student import Student

__all__ = ["LayerScorer", "scored_samples"]

# Samples held out that layers are scored on, at most; fewer where scoring each layer at one level
# would take longer than so many multiplications, half a minute on two cores.
SCORED_SAMPLES = 128
LEAST_SCORED = 16
MULTIPLICATIONS = 3_300_000_000_000


def scored_samples(samples: int, layers: int, multiplications: int) -> int:
    """Return how many of ``samples`` are held out to score so many ``layers`` on.

    ``multiplications`` is what a forward pass of one sample takes. 0 where there are too few to
    hold any out: all of them score then.
    """
    affordable = MULTIPLICATIONS // (layers * max(multiplications, 1))
    most = min(max(affordable, LEAST_SCORED), SCORED_SAMPLES)
    return min(samples // HELD_OUT, most)


class LayerScorer:
    """Scores layers. What that takes is made at the first call: not all allocators score."""

    def __init__(self, job: Job, student: Student) -> None:
        self._job, self._student = job, student
        self._fit: LayerFit | None = None
        self._left: list[str] = []

    def __call__(self, name: str, levels: Sequence[int]) -> list[float]:
        """Return minus what ``name``, alone kept to each of ``levels``, adds to the divergence.

        On samples that the layer was not fitted to. Where it cannot be fitted it is pruned only.
        """
        student, dense = self._student, self._student.dense
        masks = [student.masking.mask(name, dense[name], level) for level in levels]
        found = [{name: dense[name] * mask} for mask in masks]
        fit = self._fit_that_comes_to(name)
        if fit is not None:
            with suppress(UnsupportedModelError):
                found = fit.roughly(name, masks, dense)
        return [self._untouched - self._divergence({**dense, **each}) for each in found]

    @property
    def samples(self) -> int:
        """Number of samples that score."""
        return len(self._data[1])

    def _fit_that_comes_to(self, name: str) -> LayerFit | None:
        """Return a fit that has come to the layer ``name``, None where that has no fit.

        Past every layer before it, also those not asked for: how much of what enters a layer is
        looked at depends on the way there, and a resumed run must find the same.
        """
        if self._fit is None or (name in self._fit.layers and name not in self._left):
            runs = FittingRuns(self._student, self._data[0])
            self._fit = LayerFit(self._student, runs, self._job.cores, search_masks=False)
            self._left = list(self._fit.layers)
        if name not in self._fit.layers:
            return None
        place = self._left.index(name)
        for passed in self._left[:place]:
            with suppress(UnsupportedModelError):
                self._fit.roughly(passed, (), self._student.dense)
        self._left = self._left[place + 1 :]
        return self._fit

    @cached_property
    def _data(self) -> tuple[CalibrationData, CalibrationData]:
        """What layers are fitted to, and what they are scored on."""
        data, student = self._job.data, self._student
        held_out = scored_samples(len(data), len(student.prunable), student.multiplications)
        return data.split(held_out, self._job.recipe.seed) if held_out else (data, data)

    @cached_property
    def _untouched(self) -> float:
        """The divergence of the dense student, where the dense model teaches otherwise than it."""
        return self._divergence(self._student.dense)

    @cached_property
    def _divergence(self) -> DivergenceFromDense:
        return DivergenceFromDense(self._job, self._student, self._data[1])
