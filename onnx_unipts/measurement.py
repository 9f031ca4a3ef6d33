"""Load time, latency and peak memory of the dense and the sparse file, measured in turn."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnx_unipts.external_data import data_files
from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.errors import OnnxUniptsError
from onnx_unipts.graph.model import is_ort_format, load_model, save_model
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.timed_session import TimedSession

__all__ = ["measure", "measure_in_run"]

MOST_RUNS = 200
MOST_LOADS = 20
FEWEST = 3
# What a report spends on it. Of models below the least size neither load time nor memory says
# anything beside those of the runtime; of one above the largest not two are held at a time.
REPORT_SECONDS = 3.0
LEAST = 2**20
LARGEST = 2**28

Feeds = Mapping[str, np.ndarray]
Step = Callable[[], float]


def measure(
    dense: Path, sparse: Path, feeds: Feeds, threads: int, samples: int, seconds: float
) -> dict[str, Any]:
    """Measure both files, each in a process of its own, for about so many ``seconds``.

    ``feeds`` is what one run takes, of so many ``samples``. Returns ``latency`` and ``load``
    (``dense_ms``, ``sparse_ms``: medians of ``runs``; ``ratio``: the median of the ratios of a run
    of the one to the next of the other) and ``memory`` (``dense_bytes``, ``sparse_bytes``: the
    largest resident size of a process that loads and runs the model; ``runtime_bytes``: that
    before). Raises `OnnxUniptsError` where a process ends.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arrays = directory / "feeds.npz"
        np.savez(arrays, **feeds)  # type: ignore[arg-type]
        paths = [_readable(path, directory) for path in (dense, sparse)]
        workers = [stack.enter_context(_process(path, threads, arrays)) for path in paths]
        return _in_turn(workers, threads, samples, seconds)


def measure_in_run(
    dense: Path, sparse: Path, feeds: Feeds, threads: int, samples: int
) -> dict[str, Any]:
    """Measure what a report tells of a run: latency, and of larger models the rest of `measure`.

    Empty for models over 256 MB.
    """
    size = sum(path.stat().st_size for path in (dense, *data_files(dense)))
    if size > LARGEST:
        return {}
    if size >= LEAST:
        return measure(dense, sparse, feeds, threads, samples, REPORT_SECONDS)
    with tempfile.TemporaryDirectory() as directory:
        paths = [_readable(path, Path(directory)) for path in (dense, sparse)]
        sessions = [TimedSession(path, threads, feeds) for path in paths]
        for session in sessions:
            session.load()
            session.run()
        steps = [session.run for session in sessions]
        return {"latency": _latency(steps, threads, samples, REPORT_SECONDS / 4)}


def _readable(path: Path, directory: Path) -> Path:
    """Return ``path``, or that of an equal model which this onnxruntime is able to read."""
    if is_ort_format(path):
        return path
    model = load_model(path, unpacked=False)
    able = runnable(model)
    if able is model:
        return path
    save_model(able, target := directory / f"{len(os.listdir(directory))}.onnx")
    return target


def _in_turn(
    workers: Sequence[Callable[[str], float]], threads: int, samples: int, seconds: float
) -> dict[str, Any]:
    before = workers[0]("memory")
    for worker in workers:
        worker("load")
        worker("run")
    peaks = [int(worker("memory")) for worker in workers]
    loads, runs = ([partial(worker, step) for worker in workers] for step in ("load", "run"))
    loaded = _compared(loads, MOST_LOADS, seconds / 2)
    for run in runs:
        run()
    measured = {"latency": _latency(runs, threads, samples, seconds / 2), "load": loaded}
    if all(peaks):
        measured["memory"] = {
            "dense_bytes": peaks[0],
            "sparse_bytes": peaks[1],
            "runtime_bytes": int(before),
            "ratio": peaks[1] / peaks[0],
        }
    return measured


def _latency(runs: Sequence[Step], threads: int, samples: int, seconds: float) -> dict[str, Any]:
    return {
        **_compared(runs, MOST_RUNS, seconds),
        "samples": samples,
        "threads": threads,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }


def _compared(steps: Sequence[Step], most: int, seconds: float) -> dict[str, Any]:
    """Take the steps of dense and sparse in turn, who is first changing, until the time is over."""
    spent: list[tuple[float, float]] = []
    ends = time.monotonic() + seconds
    while len(spent) < FEWEST or (len(spent) < most and time.monotonic() < ends):
        if len(spent) % 2:
            sparse = steps[1]()
            spent.append((steps[0](), sparse))
        else:
            dense = steps[0]()
            spent.append((dense, steps[1]()))
    times = np.array(spent)
    medians = 1000 * np.median(times, axis=0)
    return {
        "dense_ms": float(medians[0]),
        "sparse_ms": float(medians[1]),
        "ratio": float(np.median(times[:, 1] / times[:, 0])),
        "runs": len(spent),
    }


@contextlib.contextmanager
def _process(path: Path, threads: int, feeds: Path) -> Iterator[Callable[[str], float]]:
    """Yield what asks a process with the model one thing at a time: load, run or memory."""
    command = [sys.executable, "-m", "onnx_unipts.timed_session", path, threads, feeds]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked, answered = process.stdin, process.stdout

    def ask(what: str) -> float:
        with contextlib.suppress(BrokenPipeError):
            print(what, file=asked, flush=True)
        answer = answered.readline()
        if not answer:
            process.kill()
            said = process.communicate()[1].strip().splitlines() or ["without a word"]
            raise OnnxUniptsError(f"{path}: its process ended: {said[-1]}")
        return float(answer)

    try:
        yield ask
    finally:
        process.kill()
        with contextlib.suppress(ValueError, OSError):
            process.communicate()
