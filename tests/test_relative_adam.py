"""The careful optimizer: steps relative to the weights, whatever the scale of the gradients."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_unipts.training.relative_adam import RelativeAdam


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("size", [0.01, 100.0])
def test_a_step_is_a_share_of_the_kept_weights(scale: float, size: float):
    rng = np.random.default_rng(0)
    mask = rng.random((8, 16)) < 0.5
    before = np.where(mask, size * rng.choice([-1.0, 1.0], (8, 16)), 0.0).astype(np.float32)
    tensors = {"w": before.copy()}
    gradient = scale * rng.standard_normal((8, 16)).astype(np.float32)
    RelativeAdam().step(tensors, {"w": gradient}, {"w": mask}, 0.01)
    change = tensors["w"] - before
    np.testing.assert_array_equal(change[~mask], 0)
    np.testing.assert_allclose(change[mask], -0.01 * size * np.sign(gradient[mask]), rtol=1e-3)


def test_it_goes_on_from_its_moments_as_if_it_had_not_stopped():
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((6, 4, 3)).astype(np.float32)
    whole = {"w": np.ones((4, 3), np.float32)}
    halves = {"w": np.ones((4, 3), np.float32)}
    optimizer, first, second = RelativeAdam(), RelativeAdam(), RelativeAdam()
    for gradient in gradients:
        optimizer.step(whole, {"w": gradient}, {}, 0.1)
    for gradient in gradients[:3]:
        first.step(halves, {"w": gradient}, {}, 0.1)
    second.velocity = {name: moment.copy() for name, moment in first.velocity.items()}
    for gradient in gradients[3:]:
        second.step(halves, {"w": gradient}, {}, 0.1)
    np.testing.assert_array_equal(whole["w"], halves["w"])


def test_a_tensor_without_kept_weights_stays():
    tensors = {"w": np.zeros((2, 2), np.float32)}
    RelativeAdam().step(
        tensors, {"w": np.ones((2, 2), np.float32)}, {"w": np.zeros((2, 2), bool)}, 0.1
    )
    np.testing.assert_array_equal(tensors["w"], 0)
