"""Preprocessing: how pixels become the inputs of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from calibration_inputs import IMAGES, MEAN, STD, refused, write_images
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx_unipts.calibration import (
    CalibrationData,
    Preprocessing,
    input_signature,
    load_calibration_data,
)
from onnx_unipts.calibration.data import ImageColumn
from onnx_unipts.calibration.preprocessing import Normalization

SHARED = Path(__file__).parents[2] / "shared"
FLOAT = np.dtype(np.float32)


class TestPreprocessing:
    @given(
        hnp.arrays(np.uint8, (2, 3, 4, 5)),
        st.tuples(*[st.floats(-2, 2)] * 3),
        st.tuples(*[st.floats(0.01, 2)] * 3),
    )
    @settings(max_examples=50, deadline=None)
    def test_pixels_become_what_the_formula_says(self, pixels: Any, mean: Any, std: Any) -> None:
        normalization = Normalization.of(Preprocessing(mean=mean, std=std), 3)
        values = ImageColumn(pixels, "nchw", normalization, FLOAT).batch(np.arange(2))
        shape = (3, 1, 1)
        expected = (pixels / 255 - np.reshape(mean, shape)) / np.reshape(std, shape)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-4)
        last = ImageColumn(pixels.transpose(0, 2, 3, 1), "nhwc", normalization, FLOAT)
        np.testing.assert_allclose(last.batch(np.arange(2)).transpose(0, 3, 1, 2), values)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"std": (1.0, 0.0, 1.0)}, "must be above 0"),
            ({"mean": (float("nan"),)}, "only finite"),
            ({"crop": 0}, "at least 1"),
            ({"resize": -1}, "at least 1"),
            ({"resize": 8, "crop": 9}, "smaller than --crop"),
            ({"layout": "hwc"}, "allowed are nchw and nhwc"),
        ],
    )
    def test_numbers_that_cannot_be_meant(self, options: dict[str, Any], message: str) -> None:
        with refused(message):
            Preprocessing(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (Preprocessing(mean=(0.5, 0)), "--mean has 2 numbers, but the model's input has 3 "),
            (Preprocessing(std=(1.0, 1.0)), "--std has 2 numbers"),
            (Preprocessing(crop=7), "--crop 7 contradicts .* height is 8"),
            (Preprocessing(resize=7), "--resize 7 is smaller"),
            (Preprocessing(layout="nhwc"), "--layout nhwc contradicts .* 8 channels"),
        ],
    )
    def test_options_against_the_model(
        self, tmp_path: Path, options: Preprocessing, message: str
    ) -> None:
        with refused(message):
            load_calibration_data(write_images(tmp_path, ["a.png"]), IMAGES, options)


def accuracy(path: Path, data: CalibrationData) -> float:
    session = onnxruntime.InferenceSession(path)
    parts = np.array_split(np.arange(len(data)), len(data) // 50)
    scores = np.concatenate([session.run(None, data.batch(part))[0] for part in parts])
    return float(np.mean(scores.argmax(axis=1) == data.labels))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared models and images")
class TestRealModels:
    def test_accuracy_of_resnet20(self) -> None:
        path = SHARED / "models/cifar10/resnet20_folded.onnx"
        data = load_calibration_data(
            SHARED / "data/cifar10/test",
            input_signature(ir.load(path)),
            Preprocessing(mean=MEAN, std=STD),
        )
        assert accuracy(path, data) == pytest.approx(0.822, abs=0.001)

    def test_accuracy_of_mobilenetv2(self) -> None:
        path = SHARED / "models/imagenet/mobilenetv2.onnx"
        centre = (128 / 255,) * 3
        data = load_calibration_data(
            SHARED / "data/imagenet/test",
            input_signature(ir.load(path)),
            Preprocessing(mean=centre, std=centre, resize=256, crop=224),
        )
        assert accuracy(path, data) > 0.85
