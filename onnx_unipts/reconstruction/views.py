"""What layers are fitted to: samples, and of few images also parts, enlarged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.student import Student

__all__ = ["FittingRuns", "fitting_samples", "fitting_views"]

SAMPLES = 1024
BATCH = 64
# Bytes that samples may take, one view of each.
MEMORY = 1 << 30
# Views of each image, at most: the image itself and parts of it. No more than so many samples in
# all, nor than take so many multiplications, two minutes for each run through the model.
VIEWS = 6
VIEWED = 4096
MULTIPLICATIONS = 2_000_000_000_000


def fitting_samples(data: CalibrationData) -> int:
    """Return how many samples layers are fitted to: fewer where one takes many bytes."""
    return min(len(data), SAMPLES, max(MEMORY // data.sample_bytes, 1))


def fitting_views(data: CalibrationData, multiplications: int, augment: bool) -> int:
    """Return how many views of each sample of ``data`` layers are fitted to.

    One unless samples are images that one may ``augment``, and where there are further ones.
    ``multiplications`` is what a forward pass of one sample takes.
    """
    samples = fitting_samples(data)
    if not augment or not data.has_images or samples < len(data):
        return 1
    most = min(VIEWED, MULTIPLICATIONS // max(multiplications, 1))
    return min(max(most // samples, 1), VIEWS)


class FittingRuns:
    """What the student is fed, made anew whenever it is asked for.

    Samples come in one shuffled order, always the same, in runs of one size; each run comes `views`
    times in a row, first with its samples as they are, then with parts of them.
    """

    def __init__(self, student: Student, data: CalibrationData, views: int = 1) -> None:
        """``views`` of each sample are there: see `fitting_views`."""
        samples = fitting_samples(data)
        self.views, self._data, self._batching = views, data, student.batching
        self._order = np.random.default_rng(0).permutation(len(data))[:samples]
        self._size = min(student.batching.size or _run_size(student, samples), samples)

    def __len__(self) -> int:
        """Return how often the student runs."""
        return len(self._order) // self._size * self.views

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        """Yield what each run is fed, by input name."""
        for number in range(len(self)):
            run, view = divmod(number, self.views)
            indices = self._order[run * self._size : (run + 1) * self._size]
            rng = np.random.default_rng([0, number])
            batch = self._data.zoomed(indices, rng) if view else self._data.batch(indices)
            yield from self._batching.runs(batch)


def _run_size(student: Student, samples: int) -> int:
    """Return the size of runs of which as few as memory allows hold nearly all samples."""
    return samples // -(-samples // student.divided(BATCH))
