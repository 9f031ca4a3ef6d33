"""One model in one session, each step timed; as a program, in a process of its own.

``python -m onnx_unipts.timed_session MODEL THREADS FEEDS.npz`` answers every line that it reads,
``load``, ``run`` or ``memory``, by a line with a number.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

import numpy as np

from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.memory import peak_memory

__all__ = ["TimedSession"]


class TimedSession:
    """A model file that is loaded and run, on so many ``threads``, always with the same inputs."""

    def __init__(
        self, path: str | os.PathLike[str], threads: int, feeds: Mapping[str, np.ndarray]
    ) -> None:
        self._path, self._threads, self._feeds = os.fspath(path), threads, dict(feeds)
        self._session: onnxruntime.InferenceSession | None = None

    def load(self) -> float:
        """Make a new session in the place of the last one; return the seconds that takes."""
        self._session = None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 4
        began = time.perf_counter()
        self._session = onnxruntime.InferenceSession(
            self._path, options, providers=["CPUExecutionProvider"]
        )
        return time.perf_counter() - began

    def run(self) -> float:
        """Run the model once; return the seconds that takes."""
        assert self._session is not None
        began = time.perf_counter()
        self._session.run(None, self._feeds)
        return time.perf_counter() - began


def _serve(path: str, threads: str, feeds: str) -> None:
    with np.load(feeds) as arrays:
        session = TimedSession(path, int(threads), {name: arrays[name] for name in arrays.files})
    answers = {"load": session.load, "run": session.run, "memory": peak_memory}
    for line in sys.stdin:
        print(answers[line.strip()](), flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
