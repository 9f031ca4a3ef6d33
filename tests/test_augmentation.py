"""Augmentation: images move by seed, what is no image never does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calibration_inputs import IMAGES, MEAN, STD, VECTORS, spec

from onnx_unipts.calibration import CalibrationData, Preprocessing, load_calibration_data
from onnx_unipts.calibration.data import ArrayColumn, ImageColumn
from onnx_unipts.calibration.preprocessing import Normalization

FLOAT = np.dtype(np.float32)


def moved_by_definition(images: np.ndarray, dy: int, dx: int, flip: bool) -> np.ndarray:
    """Pad all sides of (channels, height, width) by their mirror image, crop, mirror."""
    _, height, width = images.shape
    tall, wide = height // 8, width // 8
    padded = np.pad(images, ((0, 0), (tall, tall), (wide, wide)), mode="reflect")
    window = padded[:, dy : dy + height, dx : dx + width]
    return window[:, :, ::-1] if flip else window


class TestAugmentation:
    @pytest.mark.parametrize("layout", ["nchw", "nhwc"])
    def test_every_image_is_a_padded_crop_of_its_original(self, layout: Any) -> None:
        rng = np.random.default_rng(0)
        pixels = rng.integers(1, 256, (40, 3, 16, 24), np.uint8)
        stored = pixels if layout == "nchw" else pixels.transpose(0, 2, 3, 1)
        column = ImageColumn(stored, layout, None, np.dtype(np.uint8))
        data = CalibrationData({"x": column}, description="")
        moved = data.augmented(np.arange(40), np.random.default_rng(7))["x"]
        moved = moved if layout == "nchw" else moved.transpose(0, 3, 1, 2)
        found = []
        for image, result in zip(pixels, moved, strict=True):
            candidates = [
                (dy, dx, flip)
                for dy in range(5)
                for dx in range(7)
                for flip in (False, True)
                if np.array_equal(moved_by_definition(image, dy, dx, flip), result)
            ]
            assert len(candidates) == 1
            found += candidates
        downs, rights, flips = zip(*found, strict=True)
        assert set(downs) == set(range(5))
        assert set(rights) == set(range(7))
        assert 8 < sum(flips) < 32

    def test_it_is_a_matter_of_the_generator_alone(self) -> None:
        data = load_calibration_data(None, IMAGES, num_samples=16)
        indices = np.arange(16)
        first = data.augmented(indices, np.random.default_rng(3))["x"]
        again = data.augmented(indices, np.random.default_rng(3))["x"]
        other = data.augmented(indices, np.random.default_rng(4))["x"]
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_the_pixels_stay_those_of_the_image(self) -> None:
        white = np.full((64, 3, 8, 8), 255, np.uint8)
        normalization = Normalization.of(Preprocessing(mean=MEAN, std=STD), 3)
        data = CalibrationData(
            {"x": ImageColumn(white, "nchw", normalization, FLOAT)}, description=""
        )
        moved = data.augmented(np.arange(64), np.random.default_rng(0))["x"]
        np.testing.assert_array_equal(moved, data.batch(np.arange(64))["x"])

    def test_inputs_of_one_sample_move_together(self) -> None:
        images = np.random.default_rng(0).random((8, 3, 16, 16)).astype(np.float32) + 1
        columns = {"a": ArrayColumn(images, "nchw"), "b": ArrayColumn(images, "nchw")}
        moved = CalibrationData(columns, description="").augmented(
            np.arange(8), np.random.default_rng(0)
        )
        np.testing.assert_array_equal(moved["a"], moved["b"])

    def test_arrays_move_only_on_request(self) -> None:
        images = np.random.default_rng(0).random((8, 3, 16, 16)).astype(np.float32)
        specs = [spec("N", 3, 16, 16)]
        rng = np.random.default_rng(0)
        still = load_calibration_data({"x": images}, specs)
        np.testing.assert_array_equal(still.augmented(np.arange(8), rng)["x"], images)
        moving = load_calibration_data({"x": images}, specs, Preprocessing(augment_arrays=True))
        moved = moving.augmented(np.arange(8), rng)["x"]
        assert not np.array_equal(moved, images)
        assert set(moved.ravel().tolist()) <= set(images.ravel().tolist())

    def test_what_is_no_image_never_moves(self) -> None:
        vectors = np.random.default_rng(0).random((8, 4)).astype(np.float32)
        data = load_calibration_data({"x": vectors}, VECTORS, Preprocessing(augment_arrays=True))
        np.testing.assert_array_equal(
            data.augmented(np.arange(8), np.random.default_rng(0))["x"], vectors
        )
