"""The course of a training: how good the model would be if it ended at each of the epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from onnx_unipts.evaluation import compare, measure_accuracy, outputs_of
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.job import Job
from onnx_unipts.run_directory import RunDirectory
from onnx_unipts.student import Student, write_back
from onnx_unipts.training.ort import file_session, model_session
from onnx_unipts.training.trainer import Checkpoint

__all__ = ["Course"]

SAMPLES = 1000
# What an entry of the journal is known by.
IDENTIFYING = ("kind", "attempt", "measured_on")
# Epochs that are measured, at most: with few samples each is shorter than its measurement.
POINTS = 20
# Bytes of weights that are written out again at every epoch, at most.
LARGEST = 2**28
# Between two lines that tell of epochs.
SECONDS_BETWEEN = 5.0


class Course:
    """Measures the model at the epochs of a training, and remembers it in the journal of the run.

    On the evaluation data, or some of the calibration data where there is none. Nothing that is
    measured here changes the training.
    """

    def __init__(
        self,
        job: Job,
        run: RunDirectory,
        student: Student,
        settle: Callable[[int, Checkpoint], Mapping[str, np.ndarray]],
    ) -> None:
        """``settle`` returns the tensors that an attempt would leave, were this its end."""
        self._job, self._run, self._student = job, run, student
        self._settle = settle
        self._told = 0.0
        data = job.eval_data or job.data
        # A resumed run may be measured on other data; what is known of the old is another curve.
        self._measured_on = data.fingerprint["sha256"][:16]
        order = np.random.default_rng(0).permutation(len(data))
        self._data = data.subset(np.sort(order[: student.affordable(SAMPLES)]))
        self._dense: dict[str, np.ndarray] = {}

    def add(self, attempt: int, state: Checkpoint) -> None:
        """Measure what the training is at in ``state``, unless that is known or takes too much.

        Of many epochs every so many-th is measured, and the last.
        """
        epochs = self._job.recipe.training.epochs
        between = state.epoch % -(-epochs // POINTS) and state.epoch < epochs
        known = any(point["epoch"] == state.epoch for point in self.of(attempt))
        if (
            between
            or known
            or sum(tensor.nbytes for tensor in self._student.tensors.values()) > LARGEST
        ):
            return
        try:
            # In processes of their own, whose memory does not stay with that of the training.
            if not self._dense:
                self._dense = isolated(self._run_dense)
            measured = isolated(self._measure, attempt, state)
        except UnsupportedModelError:
            return
        self._run.append(
            "epoch",
            attempt=attempt,
            measured_on=self._measured_on,
            epoch=state.epoch,
            step=len(state.losses),
            **measured,
        )
        self._tell(state.epoch, measured)

    def shares(self, attempt: int, epoch: int) -> dict[str, float | None]:
        """Return ``accuracy`` and ``agreement`` after ``epoch``, None where they are not known."""
        measured = next((point for point in self.of(attempt) if point["epoch"] == epoch), {})
        return {key: measured.get(key) for key in ("accuracy", "agreement")}

    def of(self, attempt: int) -> list[dict[str, Any]]:
        """Return what was measured in ``attempt``, by epoch: see ``training.history``."""
        return [
            {key: value for key, value in entry.items() if key not in IDENTIFYING}
            for entry in self._run.entries("epoch")
            if entry["attempt"] == attempt and entry.get("measured_on") == self._measured_on
        ]

    def _tell(self, epoch: int, measured: Mapping[str, Any]) -> None:
        """Tell of the last epoch, and of others where they take long enough to wait for."""
        last = epoch == self._job.recipe.training.epochs
        if last or (epoch > 0 and time.monotonic() - self._told > SECONDS_BETWEEN):
            self._told = time.monotonic()
            self._job.progress.message(f"epoch {epoch}: {_text(measured)}")

    def _measure(self, attempt: int, state: Checkpoint) -> dict[str, Any]:
        tensors = self._settle(attempt, state)
        model = self._job.load()
        write_back(self._student, model, tensors)
        session = model_session(model, self._job.cores, self._job.targets)
        outputs = outputs_of(session, self._job.targets, self._data, self._job.own_batching)
        measured = asdict(compare(self._job.targets, self._dense, outputs))
        accuracy = measure_accuracy(self._job.targets, outputs, self._data.labels)
        return {**measured, "accuracy": None if accuracy is None else accuracy.value}

    def _run_dense(self) -> dict[str, np.ndarray]:
        """Return what the dense model makes of the data, by output."""
        session = file_session(self._job.path, self._job.cores, self._job.targets)
        return outputs_of(session, self._job.targets, self._data, self._job.own_batching)


def _text(measured: Mapping[str, Any]) -> str:
    known = [key for key in ("accuracy", "agreement") if measured[key] is not None]
    shares = [f"{key} {measured[key]:.2%}" for key in known]
    divergence = f"divergence {measured['divergence']:.4g}"
    return f"{', '.join([*shares, divergence])} on {measured['samples']} samples"
