"""Masks that are searched together with the weights: as many kept, in the pattern, and nearer."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import (
    classifier,
    images,
    largest,
    moments_of,
    outputs,
    perceptron,
    prepared,
    saved,
)

from onnx_unipts import api
from onnx_unipts.graph.model import load_model, read_tensors
from onnx_unipts.progress import Lines, Quiet
from onnx_unipts.reconstruction import (
    chosen_support,
    fitted,
    fitted_scores,
    masked_least_squares,
    reconstruct,
    support,
)
from onnx_unipts.reconstruction.least_squares import PRIORS
from onnx_unipts.targets import Target, divergence

SCORES = Target("", "", "classes")

pytestmark = pytest.mark.usefixtures("quick_simplification")


def correlated(rng: np.random.Generator, rows: int, inputs: int) -> np.ndarray:
    """Inputs of which each says much of the others."""
    mixing = np.random.default_rng(9).standard_normal((inputs // 3, inputs))
    x = rng.standard_normal((1, rows, inputs // 3)) @ mixing
    return x + 0.2 * rng.standard_normal(x.shape)


@given(
    st.integers(0, 1000), st.integers(1, 12), st.integers(1, 6), st.integers(1, 3), st.floats(0, 1)
)
@settings(max_examples=40, deadline=None)
def test_as_many_are_kept_whatever_the_shape(seed, inputs, outs, groups, density):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((groups, outs, inputs))
    kept = round(density * matrix.size)
    choice = partial(largest, kept=kept)
    moments = moments_of(rng.standard_normal((groups, 30, inputs)))
    found = chosen_support(matrix, choice(np.abs(matrix)), moments, PRIORS[0], choice)
    assert found.dtype == bool
    assert found.sum() == kept


def test_inputs_that_never_vary_do_no_harm():
    x = np.zeros((1, 20, 6))
    x[..., 0] = 1.0
    matrix = np.ones((1, 4, 6))
    choice = partial(largest, kept=8)
    found = chosen_support(matrix, choice(matrix), moments_of(x), PRIORS[0], choice)
    assert found.sum() == 8


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_inputs_that_are_not_finite_leave_the_mask(broken: float):
    x = np.full((1, 20, 6), broken)
    matrix = np.random.default_rng(0).standard_normal((1, 4, 6))
    choice = partial(largest, kept=8)
    mask = choice(np.abs(matrix))
    assert chosen_support(matrix, mask, moments_of(x), PRIORS[0], choice) is mask


def test_a_searched_mask_is_nearer_than_that_of_the_largest_weights_on_other_rows():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((1, 24, 60))
    choice = partial(largest, kept=matrix.size // 4)
    mask = choice(np.abs(matrix))
    rows, new = correlated(rng, 2000, 60), correlated(rng, 2000, 60)

    def error(weights: np.ndarray) -> float:
        return float(np.square(new @ (matrix - weights).swapaxes(1, 2)).mean())

    by_magnitude = masked_least_squares(matrix, mask, moments_of(rows))
    parts = [moments_of(part) for part in (rows[:, :1500], rows[:, 1500:])]
    search = partial(chosen_support, choice=choice)
    searched = fitted(matrix, mask, *parts, search)
    assert np.count_nonzero(searched) == mask.sum()
    assert error(searched) < 0.7 * error(by_magnitude)


def test_a_mask_that_does_worse_on_rows_held_out_is_not_taken():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((1, 10, 40))
    mask = largest(np.abs(matrix), 200)
    parts = [moments_of(rng.standard_normal((1, rows, 40))) for rows in (300, 100)]

    def smallest(matrix: np.ndarray, *_: object) -> np.ndarray:
        return largest(-np.abs(matrix), 200)

    taken = fitted(matrix, mask, *parts, smallest)
    np.testing.assert_array_equal(taken != 0, mask)


def test_scores_come_nearer_with_a_searched_mask():
    errors = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        matrix, bias = rng.standard_normal((40, 60)), rng.standard_normal(40)
        choice = partial(largest, kept=matrix.size // 5)
        mask = choice(np.abs(matrix))
        seen, new = (0.1 * correlated(rng, 800, 60)[0] for _ in range(2))
        for search in (None, partial(chosen_support, choice=choice)):
            weights, added = fitted_scores(matrix, bias, mask, seen, seen, search=search)
            assert np.count_nonzero(weights) == mask.sum()
            wanted = new @ matrix.T + bias
            errors.append(divergence(SCORES, wanted, new @ weights.T + added))
    assert sum(errors[1::2]) < 0.9 * sum(errors[::2])


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_a_model_with_searched_masks_keeps_the_pattern_and_is_nearer(pattern, tmp_path: Path):
    if pattern == "2:4":
        model, x = perceptron(), correlated(np.random.default_rng(0), 96, 10)[0]
    else:
        model, x = classifier(), images(96)
    student, data = prepared(model, tmp_path, x.astype(np.float32), pattern)
    share = 0.5 if pattern == "2:4" else 0.3
    kept = {name: int(share * student.dense[name].size) for name in student.prunable}
    if pattern == "2:4":
        limits = {name: student.dense[name].size for name in kept}
        kept = student.masking.rounded(kept, student.dense, limits)

    batch = data.batch(np.arange(96))
    dense = outputs(student.with_tensors(dict(student.dense)), batch)[0]

    def error(search_masks: bool) -> float:
        tensors, others = reconstruct(student, kept, data, 1, Quiet(), search_masks)
        assert others == []
        for name in student.prunable:
            assert np.count_nonzero(tensors[name]) == kept[name]
            assert student.masking.violation(name, tensors[name]) == ""
        return float(np.square(outputs(student.with_tensors(tensors), batch)[0] - dense).mean())

    assert error(search_masks=True) < error(search_masks=False)


def test_masks_that_a_criterion_has_drawn_are_fitted_and_not_searched(tmp_path: Path):
    settings = {"criterion": "random", "allocation.method": "lamp"}
    result = api.compress(
        saved(classifier(), tmp_path), sparsity=0.7, data={"x": images()}, recipe="alps",
        settings=settings, jobs=1, format="dense",
    )  # fmt: skip
    written = read_tensors(load_model(result.output), ["w1", "w2", "w3"])
    for weight in written.values():
        assert np.abs(weight[weight != 0]).min() > 1e-9


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"recipe": "alps"}, 1),
        ({"recipe": "pot"}, 0),
        ({"recipe": "alps", "settings": {"criterion": "random"}}, 0),
        ({"settings": {"training.reconstruction": True, "training.epochs": 1}}, 1),
    ],
)
def test_layers_too_large_for_the_search_of_masks_are_named(
    options: dict[str, Any], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(support, "MOST_INPUTS", 27)
    told = io.StringIO()
    api.compress(
        saved(classifier(), tmp_path), sparsity=0.7, data={"x": images()}, jobs=1, format="dense",
        progress=Lines(told), **options,
    )  # fmt: skip
    line = "too large for the search of masks, which stay by magnitude: w2"
    assert told.getvalue().splitlines().count(line) == expected


def test_training_keeps_the_masks_that_were_searched(tmp_path: Path):
    settings = {
        "training.reconstruction_masks": "searched",
        "training.epochs": 2,
        "allocation.method": "lamp",
    }
    result = api.compress(
        saved(classifier(), tmp_path), sparsity=0.85, data={"x": images(32)}, settings=settings,
        jobs=1, format="dense",
    )  # fmt: skip
    written = read_tensors(load_model(result.output), ["w1", "w2", "w3"])
    assert sum(np.count_nonzero(weight == 0) for weight in written.values()) == int(0.85 * 824)
    assert result.report["training"]["steps"] == 8
