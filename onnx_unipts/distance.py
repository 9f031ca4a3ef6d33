"""How far a student is from the dense model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.evaluation import run_samples
from onnx_unipts.job import Job
from onnx_unipts.student import Student, batches_of
from onnx_unipts.targets import total_divergence
from onnx_unipts.training.ort import inference_session

__all__ = ["DivergenceFromDense"]

# Samples that are compared, so many in a run.
SAMPLES = 256
BATCH = 16


class DivergenceFromDense:
    """How far tensors of a student are from the dense model on some of the calibration data.

    From the dense model as it teaches: with the same statistics.
    """

    def __init__(self, job: Job, student: Student, data: CalibrationData | None = None) -> None:
        """Compare on ``data``, or on some of the job's."""
        self._student, self._cores = student, job.cores
        self._data = job.data if data is None else data
        statistics = job.recipe.training.teacher_statistics
        self._dense = self._run(student.teacher(statistics))

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> float:
        """Return the mean divergence with ``tensors``; infinite where one of them is."""
        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
            return float("inf")
        pairs = zip(self._dense, self._run(self._student.with_tensors(tensors)), strict=True)
        return float(np.mean([total_divergence(self._student.targets, *pair) for pair in pairs]))

    def _run(self, model: bytes) -> list[dict[str, np.ndarray]]:
        session = inference_session(model, self._cores)
        names = list(dict.fromkeys(target.value for target in self._student.targets))
        student = self._student
        size = student.divided(min(BATCH, len(self._data)))
        batches = batches_of(self._data, size, student.affordable(SAMPLES))
        return [
            dict(zip(names, run_samples(session, names, batch, student.batching), strict=True))
            for batch in batches
        ]
