"""Parts of images enlarged to their size: which, and of what kind the images may be."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.calibration.data import ArrayColumn, ImageColumn
from onnx_unipts.calibration.preprocessing import Normalization
from onnx_unipts.calibration.zoom import LEAST_AREA, Zoom, zoomed


def ramp(height: int = 24, width: int = 32) -> np.ndarray:
    """One image of two channels: places from the top, and from the left, in shares."""
    down, right = np.mgrid[0:height, 0:width]
    return np.stack([(down + 0.5) / height, (right + 0.5) / width])[None].astype(np.float32)


def seen(side: float, down: float, right: float, flip: bool = False) -> np.ndarray:
    zoom = Zoom(*(np.array([value]) for value in (side, down, right)), np.array([flip]))
    return zoomed(ramp(), zoom, "nchw")[0]


def test_the_part_asked_for_fills_the_image():
    part = seen(0.5, 1.0, 0.0)
    inner = part[:, 2:-2, 2:-2]
    np.testing.assert_allclose(inner[0, :, 0], 0.5 + 0.5 * ramp()[0, 0, 2:-2, 0], atol=0.005)
    np.testing.assert_allclose(inner[1, 0], 0.5 * ramp()[0, 1, 0, 2:-2], atol=0.005)
    np.testing.assert_array_equal(seen(0.5, 1.0, 0.0, flip=True), part[:, :, ::-1])


def test_the_whole_image_is_the_image():
    np.testing.assert_allclose(seen(1.0, 0.3, 0.7), ramp()[0], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_layouts_and_types_stay(dtype):
    rng = np.random.default_rng(0)
    images = (255 * rng.random((6, 3, 10, 12))).astype(dtype)
    zoom = Zoom.draw(6, rng)
    part = zoomed(images, zoom, "nchw")
    assert part.shape == images.shape
    assert part.dtype == dtype
    last = zoomed(np.moveaxis(images, 1, -1), zoom, "nhwc")
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), part)


def test_parts_are_drawn_of_a_quarter_to_all():
    zoom = Zoom.draw(2000, np.random.default_rng(0))
    area = zoom.side**2
    assert area.min() >= LEAST_AREA
    assert area.max() <= 1
    assert abs(area.mean() - (1 + LEAST_AREA) / 2) < 0.02
    assert abs(zoom.flip.mean() - 0.5) < 0.05


def test_inputs_of_one_sample_show_the_same_part_and_what_is_no_image_stays():
    rng = np.random.default_rng(0)
    pixels = (255 * rng.random((5, 3, 16, 16))).astype(np.uint8)
    as_they_are = Normalization(np.ones(3, np.float32), np.zeros(3, np.float32))
    columns = {
        "photo": ImageColumn(pixels, "nchw", as_they_are, np.dtype(np.float32)),
        "same": ArrayColumn(pixels.astype(np.float32), "nchw"),
        "numbers": ArrayColumn(rng.random((5, 7))),
    }
    data = CalibrationData(columns, description="samples")
    assert data.has_images
    batch = data.zoomed(np.array([3, 1]), np.random.default_rng(1))
    np.testing.assert_allclose(batch["photo"], batch["same"].clip(0, 255), atol=3)
    assert not np.array_equal(batch["photo"], pixels[[3, 1]])
    np.testing.assert_array_equal(batch["numbers"], columns["numbers"].values[[3, 1]])
    assert not CalibrationData({"x": columns["numbers"]}, description="samples").has_images
