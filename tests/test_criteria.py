"""What weights are worth, from what enters their layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_networks import STUDENT_SETTINGS, draw, network, prepared

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.criteria import CRITERIA, Evidence, FixedScores
from onnx_unipts.patterns import Masking
from onnx_unipts.reconstruction import input_moments, linear_layers, moments
from onnx_unipts.student import Student
from onnx_unipts.targets import softmax

pytestmark = pytest.mark.usefixtures("quick_simplification")


def evidence(prepared: tuple[Student, CalibrationData], seed: int = 0) -> Evidence:
    student, data = prepared
    return Evidence(student, data, STUDENT_SETTINGS, seed, 1, lambda text: pytest.fail(text))


def test_wanda_weighs_by_the_root_mean_square_of_the_input(convolutional):
    student, data = convolutional
    scores = CRITERIA["wanda"](evidence(convolutional))
    x = data.batch(np.arange(64))["x"]
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    weight = student.dense["w1"]
    for channel, row, column in [(0, 0, 0), (2, 1, 1), (1, 2, 0)]:
        seen = padded[:, channel, row : row + 8, column : column + 8]
        expected = np.abs(weight[:, channel, row, column]) * np.sqrt(np.square(seen).mean())
        ours = scores("w1", weight)[:, channel, row, column]
        np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_second_order_is_the_saliency_of_the_optimal_brain_surgeon(convolutional):
    student, data = convolutional
    scores = CRITERIA["second-order"](evidence(convolutional))
    layers = linear_layers(student)
    measured = input_moments(student, layers, student.dense, data)["w3"][0]
    system = measured + 0.01 * np.trace(measured) / len(measured) * np.eye(len(measured))
    weight = student.dense["w3"].astype(np.float64)
    ours = np.square(scores("w3", student.dense["w3"]).astype(np.float64))
    for removed in range(3):
        # What it costs to force this weight to zero when the others may follow.
        mask = np.ones(weight.shape, bool)
        mask[:, removed] = False
        fitted = np.linalg.solve(system[mask[0]][:, mask[0]], (system @ weight.T)[mask[0]]).T
        change = weight.copy()
        change[:, mask[0]] -= fitted
        cost = np.einsum("ok,kl,ol->o", change, system, change)
        np.testing.assert_allclose(ours[:, removed], cost, rtol=1e-3)


def test_a_layer_of_too_many_inputs_goes_by_magnitude(
    convolutional, monkeypatch: pytest.MonkeyPatch
):
    student, data = convolutional
    weight = student.dense["w2"]
    monkeypatch.setattr(moments, "PRODUCTS_MEMORY", 8 * 50**2)  # w2 has 72 inputs, w1 27
    warnings: list[str] = []
    seen = Evidence(student, data, STUDENT_SETTINGS, 0, 1, warnings.append)
    np.testing.assert_array_equal(CRITERIA["second-order"](seen)("w2", weight), np.abs(weight))
    assert warnings == ["too many inputs for their moments, magnitude decides: w2"]
    assert (CRITERIA["wanda"](evidence(convolutional))("w2", weight) != np.abs(weight)).any()


def test_moments_are_measured_together_as_far_as_there_is_room(
    convolutional, monkeypatch: pytest.MonkeyPatch
):
    student, _ = convolutional
    together = CRITERIA["second-order"](evidence(convolutional))
    monkeypatch.setattr(moments, "PRODUCTS_MEMORY", 8 * 72**2)  # w2 alone
    apart = CRITERIA["second-order"](evidence(convolutional))
    for name, weight in student.dense.items():
        if name in student.prunable:
            np.testing.assert_allclose(apart(name, weight), together(name, weight), rtol=0.3)


def test_gradient_times_weight_favours_what_the_outputs_hang_on(convolutional):
    student, _ = convolutional
    scores = CRITERIA["gradient-times-weight"](evidence(convolutional))
    for name in student.prunable:
        values = scores(name, student.dense[name])
        assert values.shape == student.dense[name].shape
        assert np.isfinite(values).all()
        assert (values > 0).mean() > 0.9
        assert not scores(name, np.zeros_like(student.dense[name])).any()


def test_gradient_times_weight_is_the_root_of_the_fisher_information(tmp_path: Path):
    """Of scores x W, that of W[i, j] is the mean of x_i^2 p_j (1 - p_j)."""
    tensors = {"w": 2 * draw(0, w=(10, 4))["w"]}
    model = network("net (float[N,10] x) => (float[N,4] y) {y = MatMul (x, w)}", tensors)
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((512, 10)) * np.linspace(0.2, 2, 10)).astype(np.float32)
    scores = CRITERIA["gradient-times-weight"](evidence(prepared(model, tmp_path, x)))
    p = softmax(x @ tensors["w"])
    fisher = np.sqrt(np.square(x).T @ (p * (1 - p)) / len(x))
    # The gradient of a batch is that of its mean: of sixteen samples, a quarter of the root.
    ratios = 4 * scores("w", np.ones((10, 4), np.float32)) / fisher
    np.testing.assert_allclose(ratios, 1, rtol=0.6)
    assert ratios.mean() == pytest.approx(1, rel=0.1)


def test_random_scores_follow_the_seed_alone(convolutional):
    student, _ = convolutional
    one, same, other = (CRITERIA["random"](evidence(convolutional, seed)) for seed in (0, 0, 1))
    weight = student.dense["w2"]
    np.testing.assert_array_equal(one("w2", weight), same("w2", 2 * weight))
    assert (one("w2", weight) != other("w2", weight)).any()


@pytest.mark.parametrize("scale", [1.0, 1e12])
def test_zeros_are_the_first_to_go_whatever_the_scores(scale: float):
    weight, scores = np.random.default_rng(0).standard_normal((2, 200)).astype(np.float32)
    weight[::2] = 0
    masking = Masking(scores=FixedScores({"w": np.float32(scale) * scores}))
    np.testing.assert_array_equal(masking.mask("w", weight, 100), weight != 0)
