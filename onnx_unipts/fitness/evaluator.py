"""Scoring allocations: prune, recalibrate, run, compare, for many candidates side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import joblib
import numpy as np

from onnx_unipts.fitness.measure import Measure
from onnx_unipts.graph.dynamic_batch import Batching
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.patterns import Masking
from onnx_unipts.targets import Target
from onnx_unipts.training.ort import inference_session

__all__ = ["BACKENDS", "CandidateEvaluator"]

# Of joblib: threads, or processes.
BACKENDS = ("threading", "loky")
EVERYTHING = slice(None)


@dataclass
class CandidateEvaluator:
    """Scores how well pruned models, not trained at all, keep to the dense model.

    ``model`` is the serialised student that normalises by the statistics of the batch, so that
    one pass recalibrates every normalisation for the candidate and evaluates it on the same
    samples. ``tensors`` are its parameters, ``batches`` its inputs; ``dense`` holds the dense
    model's outputs and ``labels`` the labels for each batch; ``measure`` compares them. Candidates
    run in parallel on ``jobs`` workers of joblib's ``backend``, one of `BACKENDS`. ``masking`` says
    how they are pruned, ``batching`` how the model is fed.
    """

    model: bytes
    tensors: Mapping[str, np.ndarray]
    targets: Sequence[Target]
    batches: Sequence[Mapping[str, np.ndarray]]
    dense: Sequence[Mapping[str, np.ndarray]]
    measure: Measure
    labels: Sequence[np.ndarray] | None = None
    jobs: int = 1
    backend: str = "threading"
    masking: Masking = field(default_factory=Masking)
    batching: Batching = field(default_factory=Batching)
    _session: onnxruntime.InferenceSession | None = field(default=None, repr=False)

    def score(
        self, candidates: Sequence[Mapping[str, int]], part: slice = EVERYTHING
    ) -> list[float]:
        """Return the mean fitness of each allocation (weights kept by name) over batches.

        ``part`` is which of the batches. Larger is better.
        """
        if self.backend == "threading":
            self._session = self._session or inference_session(self.model)
        run = joblib.Parallel(n_jobs=self.jobs, backend=self.backend)
        shares = [candidates[i :: self.jobs] for i in range(min(self.jobs, len(candidates)))]
        done = run(joblib.delayed(self._scores)(share, part) for share in shares)
        scores = [0.0] * len(candidates)
        for i, share in enumerate(done):
            scores[i :: self.jobs] = share
        return scores

    def _scores(self, candidates: Sequence[Mapping[str, int]], part: slice) -> list[float]:
        """Score the share of one worker, which has one session for all of it."""
        session = self._session or inference_session(self.model)
        return [self._score(session, kept, part) for kept in candidates]

    def _score(
        self, session: onnxruntime.InferenceSession, kept: Mapping[str, int], part: slice
    ) -> float:
        feeds = {**self.tensors, **self.masking.candidate(self.tensors, dict(kept))}
        names = list(dict.fromkeys(target.value for target in self.targets))
        known = {value.name for value in session.get_inputs()}
        feeds = {name: value for name, value in feeds.items() if name in known}
        scores = []
        for index in range(*part.indices(len(self.batches))):
            batch = self.batches[index]
            runs = [session.run(names, {**feeds, **run}) for run in self.batching.runs(batch)]
            joined = self.batching.joined(runs, len(next(iter(batch.values()))))
            outputs = dict(zip(names, joined, strict=True))
            labels = None if self.labels is None else self.labels[index]
            scores.append(self.measure(self.targets, self.dense[index], outputs, labels))
        return float(np.mean(scores))

    def __getstate__(self) -> dict:
        """Leave the session out: workers in other processes build their own."""
        return {**self.__dict__, "_session": None}
