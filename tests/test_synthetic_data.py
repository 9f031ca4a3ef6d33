"""Synthetic inputs, where no calibration data is given."""

from __future__ import annotations

import numpy as np
from calibration_inputs import IMAGES, MEAN, STD, TEXT, everything, refused, spec

from onnx_unipts.calibration import Preprocessing, load_calibration_data


class TestSynthetic:
    def test_it_is_a_matter_of_the_seed(self) -> None:
        signature = [*IMAGES, spec("N", "length", name="ids", dtype=np.int64)]
        first, again = (everything(load_calibration_data(None, signature, seed=3)) for _ in "ab")
        other = everything(load_calibration_data(None, signature, seed=4))
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
            assert not np.array_equal(first[name], other[name])

    def test_images_are_smooth_and_standardized(self) -> None:
        for shape, axis in (((3, 32, 32), 2), ((32, 32, 1), 1)):
            data = load_calibration_data(None, [spec("N", *shape)])
            assert len(data) == 8192
            images = data.batch(np.arange(256))["x"]
            assert images.shape == (256, *shape)
            assert abs(images.mean()) < 0.01
            assert abs(images.std() - 1) < 0.01
            assert np.diff(images, axis=axis).std() < 0.7 * images.std()

    def test_given_mean_and_std_normalize_the_pixels(self) -> None:
        images = everything(
            load_calibration_data(None, IMAGES, Preprocessing(mean=MEAN, std=STD), num_samples=64)
        )["x"]
        pixels = images * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
        assert pixels.min() > -1e-6
        assert pixels.max() < 1 + 1e-6

    def test_each_dtype_and_name_gets_what_it_can_mean(self) -> None:
        signature = [
            spec("N", 3, 16, name="floats"),
            spec("N", 16, name="ids", dtype=np.int32),
            spec("N", 16, name="attention_mask", dtype=np.int64),
            spec("N", 16, name="position_ids", dtype=np.int64),
            spec("N", 16, name="token_type_ids", dtype=np.int64),
            spec("N", 16, name="flags", dtype=bool),
            spec("N", 8, 8, 3, name="pixels", dtype=np.uint8),
            spec("N", 16, name="half", dtype=np.float16),
        ]
        batch = everything(load_calibration_data(None, signature, num_samples=50))
        assert [batch[one.name].dtype for one in signature] == [one.dtype for one in signature]
        assert abs(batch["floats"].std() - 1) < 0.1
        assert 0 <= batch["ids"].min() < batch["ids"].max() < 10
        assert batch["attention_mask"].all()
        assert batch["position_ids"][7].tolist() == list(range(16))
        assert not batch["token_type_ids"].any()
        assert batch["flags"].all()
        assert batch["pixels"].max() > 200

    def test_guessed_axes_agree_and_are_said(self) -> None:
        data = load_calibration_data(None, TEXT, num_samples=2)
        assert {array.shape for array in everything(data).values()} == {(2, 16)}
        assert "guessed, as --input-shape does not say: length = 16" in data.description
        images = load_calibration_data(None, [spec("N", 3, "h", None)], num_samples=2)
        assert everything(images)["x"].shape == (2, 3, 224, 224)
        assert "h = 224, axis 3 of x = 224" in images.description

    def test_the_cost_is_said_and_the_memory_bounded(self) -> None:
        data = load_calibration_data(None, [spec("N", 2**20, name="mask")])
        assert len(data) == 64
        assert "synthetic inputs stand in" in data.warnings[0]

    def test_text_cannot_be_made_up(self) -> None:
        with refused("takes text"):
            load_calibration_data(None, [spec("N", dtype=object)])
