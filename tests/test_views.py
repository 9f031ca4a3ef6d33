"""What layers are fitted to: samples, and of few images also parts, enlarged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_networks import classifier, prepared

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.calibration.data import ArrayColumn
from onnx_unipts.reconstruction import linear_layers, views
from onnx_unipts.reconstruction.views import FittingRuns, fitting_samples, fitting_views
from onnx_unipts.reconstruction.walk import Walk
from onnx_unipts.student import Student

pytestmark = pytest.mark.usefixtures("quick_simplification")


def data_of(values: np.ndarray, images: bool = True) -> CalibrationData:
    column = ArrayColumn(values, "nchw" if images else None)
    return CalibrationData({"x": column}, description="samples")


def plain_images(count: int) -> np.ndarray:
    """Each of one brightness, its number: so are parts of them."""
    numbers = np.arange(count, dtype=np.float32)
    return np.broadcast_to(numbers[:, None, None, None], (count, 3, 8, 8)).copy()


def known(data: CalibrationData, multiplications: int, augment: bool = True) -> tuple[int, int]:
    return fitting_samples(data), fitting_views(data, multiplications, augment)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (300, (300, 6)),
        (1024, (1024, 4)),
        (1025, (1024, 1)),  # more samples say more than parts of the same ones
    ],
)
def test_few_images_are_seen_in_parts(samples: int, expected: tuple[int, int]):
    assert known(data_of(plain_images(samples)), 1000) == expected
    assert known(data_of(plain_images(samples), images=False), 1000) == (expected[0], 1)
    assert known(data_of(plain_images(samples)), 1000, augment=False) == (expected[0], 1)


def test_time_and_memory_limit_how_often(monkeypatch: pytest.MonkeyPatch):
    data = data_of(plain_images(300))
    assert known(data, views.MULTIPLICATIONS // 600) == (300, 2)
    assert known(data, views.MULTIPLICATIONS) == (300, 1)
    monkeypatch.setattr(views, "MEMORY", 200 * data.sample_bytes)
    assert known(data, 0) == (200, 1)


def shaded(count: int) -> np.ndarray:
    """The same, but for the first channel: of that, parts differ."""
    values = plain_images(count)
    values[:, 0] *= np.linspace(0, 1, 8, dtype=np.float32)
    return values


def runs_of(student: Student, values: np.ndarray, views: int = 3) -> list[list[np.ndarray]]:
    """The views of each run."""
    fed = [feeds["x"] for feeds in FittingRuns(student, data_of(values), views)]
    return [fed[start : start + views] for start in range(0, len(fed), views)]


def test_every_run_comes_with_parts_of_its_own_images(tmp_path: Path):
    values = shaded(130)
    student, _ = prepared(classifier(), tmp_path, values[:64])
    runs = runs_of(student, values)
    assert [[len(view) for view in run] for run in runs] == [[43] * 3] * 3
    numbers = np.array(runs)[:, :, :, 1, 0, 0]
    np.testing.assert_allclose(numbers[:, 1:], numbers[:, :1].repeat(2, axis=1), atol=1e-3)
    assert len(set(numbers[:, 0].ravel())) == 129
    for first, *parts in runs:
        np.testing.assert_array_equal(first, values[first[:, 1, 0, 0].astype(int)])
        assert not any(np.allclose(first, part) for part in parts)
    np.testing.assert_array_equal(runs, runs_of(student, values))


@pytest.mark.parametrize(
    ("samples", "most", "sizes"),
    [
        (32, 64, [32]),
        (61, 32, [30, 30]),  # no single samples where their number is a prime
        (100, 64, [50, 50]),  # as many as there are
        (1024, 64, [64] * 16),
        (5, 1, [1] * 5),
    ],
)
def test_batches_hold_nearly_all_samples(
    samples: int, most: int, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    student, data = prepared(classifier(), tmp_path, plain_images(samples))
    monkeypatch.setattr(type(student), "divided", lambda self, count: min(count, most))
    assert [len(feeds["x"]) for feeds in FittingRuns(student, data)] == sizes


@pytest.mark.parametrize("size", [None, 3])
def test_what_is_held_out_is_held_out_in_all_views(size: int | None, tmp_path: Path):
    values = shaded(50)  # not in threes
    student, _ = prepared(classifier(), tmp_path, values)
    student.batching = replace(student.batching, size=size)
    student.dense["w1"] = np.zeros_like(student.dense["w1"])
    layers = linear_layers(student)
    walk = Walk(student, FittingRuns(student, data_of(values), 3), 1)
    rows = walk.rows("w1", layers["w1"], student.dense, 10**6)
    held_out = np.concatenate(rows.held_out)
    # In the middle of a patch, of the channel that parts do not change.
    numbers = np.concatenate(rows.dense, axis=1)[0][:, 9 + 4].round()
    assert 0.2 < held_out.mean() < 0.3
    assert not set(numbers[held_out]) & set(numbers[~held_out])
