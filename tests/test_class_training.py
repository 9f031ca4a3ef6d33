"""The layer that scores classes is trained on samples moved to every class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import classifier, images, largest, prepared

from onnx_unipts.progress import Quiet
from onnx_unipts.reconstruction import class_means, class_training, fitted_scores, reconstruct
from onnx_unipts.reconstruction.class_training import trained_on_moved
from onnx_unipts.targets import Target, divergence

SCORES = Target("", "", "classes")

pytestmark = pytest.mark.usefixtures("quick_simplification")


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 7), st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_pruned_weights_stay_and_what_is_exact_stays_nearly(seed, classes, inputs, density):
    rng = np.random.default_rng(seed)
    matrix, bias = rng.standard_normal((classes, inputs)), rng.standard_normal(classes)
    x = rng.standard_normal((20, inputs))
    means = class_means(matrix, x)
    mask = rng.random(matrix.shape) < density
    train = partial(trained_on_moved, matrix, bias, means, x, x)
    weights, added = train(np.where(mask, matrix, 0.0), bias)
    assert not weights[~mask].any()
    assert np.isfinite(weights).all()
    assert np.isfinite(added).all()
    whole, moved = train(matrix, bias)
    assert divergence(SCORES, x @ matrix.T + bias, x @ whole.T + moved) < 0.01
    lacking = x @ (whole - matrix).T + (moved - bias)
    assert abs(lacking.mean()) < 1e-5


def discriminant(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The weights of a linear discriminant of 150 classes, inputs of 40 of them and of the others.

    Inputs at positions besides, of any class.
    """
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((60, 60)) / 60**0.5 + 0.3 * np.eye(60)
    means = 1.5 * rng.standard_normal((150, 60)) @ mixing
    matrix = means @ np.linalg.inv(mixing.T @ mixing + 0.05 * np.eye(60))
    seen, new = (
        means[part] + rng.standard_normal((len(means[part]), 60)) @ mixing
        for part in (slice(0, 40), slice(50, 150))
    )
    return matrix, seen, new, rng.standard_normal((2000, 60)) @ mixing


def test_answers_stay_for_classes_without_samples():
    errors = []
    for seed in range(3):
        matrix, seen, new, positions = discriminant(seed)
        rng, bias = np.random.default_rng(seed), np.zeros(len(matrix))
        mask = largest(np.abs(matrix), matrix.size // 5)
        student, other = (x + 0.2 * rng.standard_normal(x.shape) for x in (seen, new))
        for train in (None, trained_on_moved):
            weights, moved = fitted_scores(
                matrix, bias, mask, seen, student, positions=positions, train=train
            )
            assert not weights[~mask].any()
            errors.append(divergence(SCORES, new @ matrix.T, other @ weights.T + moved))
    assert sum(errors[1::2]) < 0.7 * sum(errors[::2])


@pytest.mark.parametrize(
    ("classes", "inputs", "expected"),
    [(1000, 1280, False), (1000, 5000, True), (16384, 2, False), (16385, 2, True)],
)
def test_many_weights_or_scores_take_too_long(classes: int, inputs: int, expected: bool):
    assert class_training.is_too_large(np.empty((classes, inputs))) == expected


def test_a_reconstructed_model_has_it_unless_the_layer_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    student, data = prepared(classifier(), tmp_path, images(64))
    kept = {name: student.dense[name].size // 3 for name in student.prunable}
    trained, _ = reconstruct(student, kept, data, 1, Quiet())
    monkeypatch.setattr(class_training, "MOST", student.dense["w3"].size - 1)
    fitted, _ = reconstruct(student, kept, data, 1, Quiet())
    np.testing.assert_array_equal(trained["w2"], fitted["w2"])
    np.testing.assert_array_equal(trained["w3"] == 0, fitted["w3"] == 0)
    assert not np.array_equal(trained["w3"], fitted["w3"])
    assert not np.array_equal(trained["b3"], fitted["b3"])
