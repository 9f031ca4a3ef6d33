"""How long one run of the dense and of the sparse file takes, measured in turn."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_unipts.evaluation import batching_for
from onnx_unipts.external_data import data_files
from onnx_unipts.graph.dynamic_batch import Batching
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.training.ort import file_session

__all__ = ["measure_latency"]

RUNS = 40
SECONDS = 2.0
# Bytes of a model of which two are not held at a time.
LARGEST = 2**28


def measure_latency(
    dense: Path,
    sparse: Path,
    sample: Mapping[str, np.ndarray],
    threads: int,
    batching: Batching | None = None,
) -> dict[str, Any]:
    """Return ``dense_ms`` and ``sparse_ms``, medians of ``runs`` runs of ``samples`` samples each.

    ``sample`` is a batch of one; a model with a fixed batch is run on a whole one. Empty for
    models over 256 MB.
    """
    if sum(path.stat().st_size for path in (dense, *data_files(dense))) > LARGEST:
        return {}
    sessions = [file_session(path, threads) for path in (dense, sparse)]
    known = {value.name for value in sessions[0].get_inputs()}
    feeds = {name: array for name, array in sample.items() if name in known}
    batching = batching_for(sessions[0], feeds, batching)
    run = next(iter(batching.runs(feeds)))
    for session in sessions:  # the first run of a session allocates
        session.run(None, run)
    times: list[list[float]] = [[], []]
    ends = time.monotonic() + SECONDS
    while not times[0] or (len(times[0]) < RUNS and time.monotonic() < ends):
        for session, spent in zip(sessions, times, strict=True):
            began = time.perf_counter()
            session.run(None, run)
            spent.append(time.perf_counter() - began)
    medians = [1000 * float(np.median(spent)) for spent in times]
    return {
        "dense_ms": medians[0],
        "sparse_ms": medians[1],
        "runs": len(times[0]),
        "samples": batching.size or 1,
        "threads": threads,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }
