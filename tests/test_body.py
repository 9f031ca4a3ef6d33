"""What learns before the scores, from inner values alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_networks import STUDENT_SETTINGS, classifier, images, prepared

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.progress import Quiet
from onnx_unipts.reconstruction import body_of
from onnx_unipts.student import Student
from onnx_unipts.training.relative_adam import RelativeAdam
from onnx_unipts.training.trainer import Checkpoint, Trainer

pytestmark = pytest.mark.usefixtures("quick_simplification")


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory: pytest.TempPathFactory) -> tuple[Student, CalibrationData]:
    return prepared(classifier(), tmp_path_factory.mktemp("convolutional"), images(64))


def test_a_body_learns_what_enters_the_scores_and_leaves_these(convolutional):
    student, data = convolutional
    body = body_of(student)
    assert body is not None
    assert body.targets == ()
    settings = STUDENT_SETTINGS.model_copy(update={"epochs": 20, "ramp": 0.0, "features_fade": 0.0})
    kept = {name: student.dense[name].size // 2 for name in student.prunable}
    trainer = Trainer(body, kept, data, settings, 0, 1)
    trainer.optimizer, trainer.learning_rate = RelativeAdam(), 0.01
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


def test_a_step_sees_what_is_drawn_of_its_samples(convolutional):
    student, data = convolutional
    kept = {name: student.dense[name].size for name in student.prunable}
    trainer = Trainer(student, kept, data, STUDENT_SETTINGS, 0, 1)
    seen = []

    def draw_one(indices: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        seen.extend(indices)
        return data.batch(np.zeros_like(indices))

    def losses() -> list[float]:
        tensors = {name: tensor.copy() for name, tensor in student.tensors.items()}
        return next(iter(trainer.epochs(Checkpoint(0, tensors), Quiet()))).losses

    plain = losses()
    trainer.draw = draw_one
    assert losses() != plain
    assert sorted(seen) == list(range(64))
