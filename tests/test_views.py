"""What layers are fitted to: samples, and of few images also parts, enlarged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_networks import classifier, prepared

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.calibration.data import ArrayColumn
from onnx_unipts.reconstruction import views
from onnx_unipts.reconstruction.views import fitting_runs, fitting_samples, fitting_views

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
        (300, (300, 3)),
        (1024, (1024, 2)),
        (1025, (1024, 1)),  # more samples say more than parts of the same ones
    ],
)
def test_few_images_are_seen_in_parts(samples: int, expected: tuple[int, int]):
    assert known(data_of(plain_images(samples)), 1000) == expected
    assert known(data_of(plain_images(samples), images=False), 1000) == (expected[0], 1)
    assert known(data_of(plain_images(samples)), 1000, augment=False) == (expected[0], 1)


def test_time_and_memory_limit_how_often(monkeypatch):
    data = data_of(plain_images(300))
    assert known(data, views.MULTIPLICATIONS // 600) == (300, 2)
    assert known(data, views.MULTIPLICATIONS) == (300, 1)
    monkeypatch.setattr(views, "MEMORY", 600 * data.sample_bytes)
    assert known(data, 0) == (300, 2)
    monkeypatch.setattr(views, "MEMORY", 200 * data.sample_bytes)
    assert known(data, 0) == (200, 1)


def test_parts_come_right_after_the_images_that_they_are_of(tmp_path: Path):
    values = plain_images(130)
    values[:, 0] *= np.linspace(0, 1, 8, dtype=np.float32)  # parts differ in the first channel
    student, _ = prepared(classifier(), tmp_path, values[:64])
    data = data_of(values)
    runs = [run["x"] for run in fitting_runs(student, data, 3)]
    assert [len(run) for run in runs] == [64] * 6
    numbers = np.array([run[:, 1, 0, 0] for run in runs]).reshape(2, 3, 64)
    np.testing.assert_allclose(numbers[:, 1:], numbers[:, :1].repeat(2, axis=1), atol=1e-3)
    assert len(set(numbers[:, 0].ravel())) == 128
    for first, *parts in zip(*[iter(runs)] * 3, strict=True):
        np.testing.assert_array_equal(first, values[first[:, 1, 0, 0].astype(int)])
        assert not any(np.allclose(first, part) for part in parts)
    again = [run["x"] for run in fitting_runs(student, data, 3)]
    np.testing.assert_array_equal(runs, again)
