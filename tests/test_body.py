"""What learns before the scores, from inner values alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_networks import STUDENT_SETTINGS

from onnx_unipts.progress import Quiet
from onnx_unipts.reconstruction import body_of
from onnx_unipts.training.relative_adam import RelativeAdam
from onnx_unipts.training.trainer import Checkpoint, Trainer

pytestmark = pytest.mark.usefixtures("quick_simplification")


def test_a_body_learns_what_enters_the_scores_and_leaves_these(convolutional):
    student, data = convolutional
    body = body_of(student)
    assert body is not None
    assert body.targets == ()
    settings = STUDENT_SETTINGS.model_copy(
        update={"epochs": 20, "ramp": 0.0, "features_fade": 0.0, "learning_rate": 0.01}
    )
    kept = {name: student.dense[name].size // 2 for name in student.prunable}
    trainer = Trainer(body, kept, data, settings, 0, 1)
    trainer.optimizer = RelativeAdam()
    state = Checkpoint(0, {name: tensor.copy() for name, tensor in student.tensors.items()})
    for reached in trainer.epochs(state, Quiet()):
        state = reached
    for name in ("w3", "b3"):
        np.testing.assert_array_equal(state.tensors[name], student.tensors[name])
    assert (state.tensors["w2"] != student.tensors["w2"]).any()
    assert np.mean(state.losses[-4:]) < 0.8 * np.mean(state.losses[:4])


def test_what_gives_values_and_no_classes_has_no_body_of_its_own(convolutional):
    student, _ = convolutional
    values = tuple(replace(target, kind="values") for target in student.targets)
    assert body_of(replace(student, targets=values)) is None
    assert body_of(replace(student, targets=(*student.targets, *values))) is None


def test_where_nothing_before_the_scores_can_learn_there_is_no_body(convolutional):
    student, _ = convolutional
    assert body_of(replace(student, features=student.features[:1])) is None
    assert body_of(replace(student, trained=("w3", "b3"))) is None
