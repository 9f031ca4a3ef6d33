"""The course of a training is told in all the numbers that are known, also where they are 0."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from compression import QUICK, compress
from small_networks import classifier, images

from onnx_unipts.course import _text
from onnx_unipts.progress import Lines

pytestmark = pytest.mark.usefixtures("quick_simplification")


def test_an_epoch_without_one_right_answer_is_told(tmp_path: Path):
    told = io.StringIO()
    labels = np.full(48, 3)  # the answers are all 0
    measured = {"x": images(), "labels": labels}
    compress(classifier(), tmp_path, QUICK, eval_data=measured, progress=Lines(told))
    (line,) = [line for line in told.getvalue().splitlines() if line.startswith("epoch 1: ")]
    assert line.startswith("epoch 1: accuracy 0.00%, agreement 100.00%, divergence ")
    assert line.endswith(" on 48 samples")


@pytest.mark.parametrize(
    ("accuracy", "agreement", "expected"),
    [
        (0.5, 0.0, "accuracy 50.00%, agreement 0.00%, divergence 1.5 on 4 samples"),
        (None, 0.0, "agreement 0.00%, divergence 1.5 on 4 samples"),
        (None, None, "divergence 1.5 on 4 samples"),
    ],
)
def test_what_is_not_known_is_left_out(
    accuracy: float | None, agreement: float | None, expected: str
):
    known = {"accuracy": accuracy, "agreement": agreement, "divergence": 1.5, "samples": 4}
    assert _text(known) == expected
