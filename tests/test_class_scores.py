"""The layer that scores classes is fitted so that answers stay, of classes without samples too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_networks import classifier, draw, images, network, saved

from onnx_unipts.calibration import input_signature, load_calibration_data
from onnx_unipts.graph.model import load_model
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.patterns import Layout, Masking
from onnx_unipts.progress import Quiet
from onnx_unipts.recipe import Training
from onnx_unipts.reconstruction import (
    Moments,
    fitted,
    fitted_scores,
    linear_layers,
    reconstruct,
    scoring_layers,
)
from onnx_unipts.student import Student, build_student
from onnx_unipts.targets import Target, divergence

pytestmark = pytest.mark.usefixtures("quick_simplification")

SCORES = Target("", "", "classes")


def student_of(model, directory: Path, x: np.ndarray, **losses: str) -> Student:
    loaded = load_model(saved(model, directory))
    weights = [weight for weight in find_prunable(loaded) if weight.pruned]
    data = load_calibration_data({"x": x}, input_signature(loaded, {}))
    settings = Training(batch_size=16, augment=False, filter_scale="none", losses=losses)
    student = build_student(loaded, [weight.key for weight in weights], data, settings)
    student.masking = Masking(layouts={weight.key: Layout.of(weight) for weight in weights})
    return student


def found(student: Student) -> dict[str, str]:
    return scoring_layers(student, linear_layers(student))


def test_it_is_the_layer_whose_outputs_are_compared_as_classes(tmp_path: Path):
    assert found(student_of(classifier(), tmp_path, images(32))) == {"w3": "b3"}
    assert found(student_of(classifier(), tmp_path, images(32), y="mse")) == {}


def test_a_convolution_with_one_score_per_class_and_no_layer_without_a_bias(tmp_path: Path):
    body = """net (float[N,3,8,8] x) => (float[N,6] y) {{
        c1 = Conv (x, w1)
        p = GlobalAveragePool (c1)
        s = Conv (p, w2{bias})
        y = Flatten (s)
    }}"""
    tensors = draw(0, w1=(5, 3, 3, 3), w2=(6, 5, 1, 1), b2=(6,))
    model = network(body.format(bias=", b2"), tensors)
    assert found(student_of(model, tmp_path, images(32))) == {"w2": "b2"}
    del tensors["b2"]
    model = network(body.format(bias=""), tensors)
    assert found(student_of(model, tmp_path, images(32))) == {}


def test_answers_stay_for_classes_without_samples():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((300, 200))
    bias = rng.standard_normal(300)
    size = np.abs(matrix)
    mask = size > np.quantile(size, 0.8)

    def rows(classes: slice) -> np.ndarray:
        noise = rng.standard_normal(matrix[classes].shape)
        return 0.08 * np.maximum(matrix[classes] + 0.5 * noise, 0)

    def error(weights: np.ndarray, added: np.ndarray) -> float:
        return divergence(SCORES, new @ matrix.T + bias, new @ weights.T + added)

    seen, new = rows(slice(0, 100)), rows(slice(100, 200))
    weights, added = fitted_scores(matrix, bias, mask, seen, seen)
    assert not weights[~mask].any()
    wanted = seen @ matrix.T + bias
    np.testing.assert_allclose((seen @ weights.T + added).mean(axis=0), wanted.mean(axis=0))
    parts = [Moments((x.T @ x)[None], (x.T @ x)[None], len(x)) for x in (seen[:75], seen[75:])]
    by_squares = fitted(matrix[None], mask[None], *parts)[0]
    assert error(weights, added) < 0.95 * error(by_squares, bias)
    assert error(weights, added) < 0.7 * error(np.where(mask, matrix, 0.0), bias)


def test_the_bias_of_the_reconstructed_model_makes_up_for_the_mean(tmp_path: Path):
    student = student_of(classifier(), tmp_path, images(64))
    kept = {name: student.dense[name].size // 3 for name in student.prunable}
    data = load_calibration_data(
        {"x": images(64)}, input_signature(load_model(saved(classifier(), tmp_path)), {})
    )
    tensors, others = reconstruct(student, kept, data, 1, Quiet())
    assert others == []
    assert (tensors["b3"] != student.dense["b3"]).all()
    assert tensors["b3"].shape == student.dense["b3"].shape
    assert np.count_nonzero(tensors["w3"]) == kept["w3"]
