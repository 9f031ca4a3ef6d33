"""A run's linear algebra takes one thread, whatever the machine has, and gives the rest back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compression import compress
from small_networks import classifier, images
from threadpoolctl import threadpool_info, threadpool_limits

from onnx_unipts.linear_algebra import on_one_thread

pytestmark = pytest.mark.usefixtures("quick_simplification")


def threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_run_takes_one_thread_and_gives_the_others_back(tmp_path: Path):
    seen: list[set[int]] = []
    with threadpool_limits(2, user_api="blas"):
        compress(classifier(), tmp_path, on_epoch=lambda epoch: seen.append(threads()))
        assert threads() == {2}
    assert seen == [{1}]


def test_fitted_layers_do_not_depend_on_the_threads_there_are(tmp_path: Path):
    written = []
    for count in (1, 2):
        with threadpool_limits(count, user_api="blas"):
            directory = tmp_path / str(count)
            directory.mkdir()
            fits = {
                "training.epochs": 0,
                "training.reconstruction": True,
                "allocation.method": "lamp",
            }
            result = compress(classifier(), directory, fits, data={"x": images(32)})
        assert result.output is not None
        written.append(np.frombuffer(result.output.read_bytes(), np.uint8))
    assert np.array_equal(*written)


def test_the_last_of_several_runs_gives_the_threads_back():
    with threadpool_limits(2, user_api="blas"):
        first, second = on_one_thread(), on_one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == {2}
