"""The attempts at training: the bolder before the more careful, each with settings of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from compression import job_of
from small_networks import images

from onnx_unipts.attempts import INSIDE, PATH, Untrained, attempts_at
from onnx_unipts.calibration import CalibrationData
from onnx_unipts.calibration.data import ArrayColumn
from onnx_unipts.student import Student


def untrained(student: Student, *, fitted: bool, renewed: bool, wholly: bool = True) -> Untrained:
    best = {name: 0.5 * tensor for name, tensor in student.tensors.items()}
    return Untrained(best, fitted, renewed, wholly)


def test_what_was_not_fitted_is_trained_boldly_then_carefully(convolutional, tmp_path: Path):
    student, _ = convolutional
    job = job_of(tmp_path, learning_rate=0.01)
    before = untrained(student, fitted=False, renewed=False)
    attempts = attempts_at(job, student, before)
    settings = job.recipe.training
    assert [attempt.number for attempt in attempts] == [0, 1, 2, 3]
    assert [attempt.careful for attempt in attempts] == [False, False, True, True]
    rates = [attempt.settings.learning_rate for attempt in attempts]
    path = PATH / settings.steps(64)
    assert rates == pytest.approx([0.01, 0.001, max(0.0001, path), max(0.00001, path / 10)])
    for bold in attempts[:2]:
        assert bold.learner is bold.settled is student
        assert bold.start is student.tensors
        assert bold.settings.ramp == settings.ramp > 0
    for careful in attempts[2:]:
        assert careful.learner is careful.settled
        assert careful.learner.normalizations == careful.learner.features == ()
        assert careful.learner.targets == student.targets
        assert careful.start is before.best
        assert careful.settings.ramp == 0
        assert not careful.parts


def test_in_few_steps_careful_ones_are_longer(convolutional, tmp_path: Path):
    student, _ = convolutional
    before = untrained(student, fitted=True, renewed=True, wholly=False)
    for epochs in (1, 1000):
        job = job_of(tmp_path, epochs=epochs, learning_rate=0.01)
        rates = [each.settings.learning_rate for each in attempts_at(job, student, before)]
        shortest = PATH / job.recipe.training.steps(64)
        assert rates == pytest.approx([max(0.0001, shortest), max(0.00001, shortest / 10)])
    assert rates == pytest.approx([0.0001, 0.00001])


def test_what_was_fitted_wholly_learns_from_inner_values_first(convolutional, tmp_path: Path):
    student, _ = convolutional
    job = job_of(tmp_path, learning_rate=0.02)
    before = untrained(student, fitted=True, renewed=True)
    inside, careful = attempts_at(job, student, before)
    assert (inside.number, careful.number) == (2, 3)
    assert inside.learner.targets == ()
    assert inside.learner.features == student.features
    assert inside.settings.learning_rate == pytest.approx(0.02 * INSIDE)
    assert inside.settings.features_fade == inside.settings.ramp == 0
    assert careful.learner.targets == student.targets
    assert careful.settings.features_fade == job.recipe.training.features_fade > 0
    for attempt in (inside, careful):
        assert attempt.careful
        assert attempt.settled is student
        assert attempt.start is before.best


def test_what_was_fitted_is_trained_boldly_first_where_the_recipe_says_so(
    convolutional, tmp_path: Path
):
    student, _ = convolutional
    job = job_of(tmp_path, careful=False)
    for renewed in (True, False):
        before = untrained(student, fitted=True, renewed=renewed)
        attempts = attempts_at(job, student, before)
        assert [attempt.careful for attempt in attempts] == [False, False, True, True]
        for bold in attempts[:2]:
            assert bold.learner is bold.settled is student
            assert bold.start is (before.best if renewed else student.tensors)
            assert bold.settings.ramp == (0 if renewed else job.recipe.training.ramp)


@pytest.mark.parametrize(("renewed", "wholly"), [(True, False), (False, True), (False, False)])
def test_what_was_not_learns_from_outputs(
    convolutional, tmp_path: Path, renewed: bool, wholly: bool
):
    student, _ = convolutional
    before = untrained(student, fitted=True, renewed=renewed, wholly=wholly)
    for attempt in attempts_at(job_of(tmp_path), student, before):
        assert attempt.learner.targets == student.targets
        assert attempt.settled is (student if renewed else attempt.learner)


def test_batches_too_small_to_normalise_by_are_trained_on_carefully(convolutional, tmp_path: Path):
    student, _ = convolutional
    before = untrained(student, fitted=False, renewed=False)
    numbers = {
        size: [attempt.number for attempt in attempts_at(job, student, before)]
        for size, job in ((size, job_of(tmp_path, batch_size=size)) for size in (8, 16))
    }
    assert numbers == {8: [2, 3], 16: [0, 1, 2, 3]}


def test_inner_values_are_learned_from_parts_of_images(convolutional, tmp_path: Path):
    student, _ = convolutional
    job, before = job_of(tmp_path), untrained(student, fitted=True, renewed=True)
    assert not any(attempt.parts for attempt in attempts_at(job, student, before))
    job.data = CalibrationData({"x": ArrayColumn(images(64), "nchw")}, description="images")
    assert [attempt.parts for attempt in attempts_at(job, student, before)] == [True, False]
    job.recipe = job.recipe.with_settings({"training.augment": False})
    assert not any(attempt.parts for attempt in attempts_at(job, student, before))
