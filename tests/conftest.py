"""What tests share: property tests without deadlines, as machines are slow and noisy; fixtures."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings
from small_networks import classifier, images, prepared, simplify_here

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph import cleanup
from onnx_unipts.student import Student

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture(scope="module")
def quick_simplification() -> Iterator[None]:
    """Simplify models in the process of the tests, without the second that a new one takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleanup, "run_onnxsim", simplify_here)
        yield


@pytest.fixture(scope="module")
def convolutional(
    quick_simplification: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Student, CalibrationData]:
    """Prepare a student of `classifier`, and the images that it learns from."""
    return prepared(classifier(), tmp_path_factory.mktemp("convolutional"), images(64))


def pytest_collection_finish() -> None:
    """Keep what was imported out of every collection of garbage: the runs collect often."""
    gc.collect()
    gc.freeze()
