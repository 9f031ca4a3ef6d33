"""What layers are fitted to: samples, and of few images also parts, enlarged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.student import Student

__all__ = ["fitting_runs", "fitting_samples", "fitting_views"]

SAMPLES = 1024
BATCH = 64
# Bytes that samples may take.
MEMORY = 1 << 30
# Views of each image, at most: the image itself and parts of it. No more than so many samples in
# all, nor than take so many multiplications, a minute for each run through the model.
VIEWS = 3
VIEWED = 2048
MULTIPLICATIONS = 1_000_000_000_000


def fitting_samples(data: CalibrationData) -> int:
    """Return how many samples layers are fitted to: fewer large ones, so that memory suffices."""
    return min(len(data), SAMPLES, _affordable(data))


def fitting_views(data: CalibrationData, multiplications: int, augment: bool) -> int:
    """Return how many views of each sample of ``data`` layers are fitted to.

    One unless samples are images that one may ``augment``, and where there are further ones.
    ``multiplications`` is what a forward pass of one sample takes.
    """
    samples = fitting_samples(data)
    if not augment or not data.has_images or samples < len(data):
        return 1
    most = min(VIEWED, _affordable(data), MULTIPLICATIONS // max(multiplications, 1))
    return min(max(most // samples, 1), VIEWS)


def fitting_runs(
    student: Student, data: CalibrationData, views: int = 1
) -> Iterator[tuple[Mapping[str, np.ndarray], ...]]:
    """Yield what the student is fed: of every run its ``views``, the samples as they are first.

    In one shuffled order, always the same, in batches of about the same size.
    """
    samples = fitting_samples(data)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data))[:samples]
    size = _batch_size(student, samples)
    for start in range(0, samples - size + 1, size):
        indices = order[start : start + size]
        seen = [data.batch(indices)]
        seen += [data.zoomed(indices, rng) for _ in range(views - 1)]
        yield from zip(*map(student.batching.runs, seen), strict=True)


def _batch_size(student: Student, samples: int) -> int:
    """Return the size of batches of which as few as memory allows hold nearly all samples."""
    size = samples // -(-samples // student.divided(BATCH))
    whole = student.batching.size or 1
    return max(size - size % whole, min(whole, samples))


def _affordable(data: CalibrationData) -> int:
    """Return how many samples there is memory for."""
    return max(MEMORY // data.sample_bytes, 1)
