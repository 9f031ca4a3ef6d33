"""Inputs of models and files of images, for the tests of calibration data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader
from PIL import Image

from onnx_unipts.calibration import CalibrationData, InputSpec
from onnx_unipts.graph.errors import UsageError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def spec(*shape: int | str | None, name: str = "x", dtype: Any = np.float32) -> InputSpec:
    return InputSpec(name, np.dtype(dtype), shape)


IMAGES = [spec("N", 3, 8, 8)]
VECTORS = [spec("N", 4)]
TEXT = [spec("N", "length", name="ids", dtype=np.int64), spec("N", "length", name="weights")]


def picture(size: tuple[int, int] = (8, 8), seed: int = 0) -> Image.Image:
    width, height = size
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def write_images(directory: Path, names: list[str], size: tuple[int, int] = (8, 8)) -> Path:
    for seed, name in enumerate(names):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(size, seed).save(path)
    return directory


def everything(data: CalibrationData) -> dict[str, np.ndarray]:
    return data.batch(np.arange(len(data)))


def refused(match: str) -> Any:
    return pytest.raises(UsageError, match=match)


class Reader(CalibrationDataReader):
    def __init__(self, batches: list[dict[str, np.ndarray]]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        return next(self.batches, None)
