"""Scoring allocations: prune, recalibrate, run, compare, for many candidates side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import joblib
import numpy as np

from onnx_unipts.fitness.measure import FITNESS
from onnx_unipts.graph.dynamic_batch import Batching
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.patterns import Masking
from onnx_unipts.targets import Target
from onnx_unipts.training.ort import inference_session

__all__ = ["BACKENDS", "CandidateEvaluator"]

# Of joblib: threads, or processes.
BACKENDS = ("threading", "loky")


@dataclass
class CandidateEvaluator:
    """Scores how well pruned models, not trained at all, keep to the dense model.

    ``model`` is the serialised student that normalises by the statistics of the batch, so that
    one pass recalibrates every normalisation for the candidate and evaluates it on the same
    samples. ``tensors`` are its parameters, ``batches`` its inputs; ``dense`` holds the dense
    model's outputs and ``labels`` the labels for each batch. Candidates run in parallel on
    ``jobs`` workers of joblib's ``backend``, one of `BACKENDS`. ``masking`` says how they are
    pruned, ``batching`` how the model is fed.
    """

    model: bytes
    tensors: Mapping[str, np.ndarray]
    targets: Sequence[Target]
    batches: Sequence[Mapping[str, np.ndarray]]
    dense: Sequence[Mapping[str, np.ndarray]]
    labels: Sequence[np.ndarray] | None = None
    measure: str = "divergence"
    jobs: int = 1
    backend: str = "threading"
    masking: Masking = field(default_factory=Masking)
    batching: Batching = field(default_factory=Batching)
    _session: onnxruntime.InferenceSession | None = field(default=None, repr=False)

    def score(self, candidates: Sequence[Mapping[str, int]]) -> list[float]:
        """Return the fitness of each allocation (weights kept by name); larger is better."""
        if self.backend == "threading":
            self._session = self._session or inference_session(self.model)
        run = joblib.Parallel(n_jobs=self.jobs, backend=self.backend)
        return list(run(joblib.delayed(self._score)(dict(kept)) for kept in candidates))

    def _score(self, kept: Mapping[str, int]) -> float:
        session = self._session or inference_session(self.model)
        feeds = {**self.tensors, **self.masking.candidate(self.tensors, kept)}
        names = list(dict.fromkeys(target.value for target in self.targets))
        known = {value.name for value in session.get_inputs()}
        feeds = {name: value for name, value in feeds.items() if name in known}
        scores = []
        for index, batch in enumerate(self.batches):
            runs = [session.run(names, {**feeds, **run}) for run in self.batching.runs(batch)]
            joined = self.batching.joined(runs, len(next(iter(batch.values()))))
            outputs = dict(zip(names, joined, strict=True))
            labels = None if self.labels is None else self.labels[index]
            scores.append(FITNESS[self.measure](self.targets, self.dense[index], outputs, labels))
        return float(np.mean(scores))

    def __getstate__(self) -> dict:
        """Leave the session out: workers in other processes build their own."""
        return {**self.__dict__, "_session": None}
