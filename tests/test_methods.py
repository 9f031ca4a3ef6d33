"""Every recipe that ships runs by name, on any model, and ends at the exact sparsity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_networks import PERCEPTRON, classifier, draw, images, network, perceptron, saved

from onnx_unipts import api, finish, recover
from onnx_unipts.allocation import ALLOCATORS, Problem
from onnx_unipts.allocation.problem import History
from onnx_unipts.allocation.sensitivity import cheapest
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.job import Job
from onnx_unipts.recipe import list_recipes, load_recipe
from onnx_unipts.student import Student
from onnx_unipts.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("quick_simplification")

SMALL: dict[str, Any] = {
    "training.adaptation": 0,
    "training.batch_size": 16,
    "allocation.search.population": 3,
    "allocation.search.generations": 1,
    "allocation.search.parents": 2,
    "allocation.search.samples": 32,
    "allocation.search.fitness": "divergence",
    "allocation.levels": 3,
}


def run(name: str, model: onnx.ModelProto, directory: Path, x: np.ndarray) -> api.Result:
    chosen = SMALL | {"training.epochs": min(1, load_recipe(name).training.epochs)}
    fixed = load_recipe(name).pattern != "unstructured"
    return api.compress(
        saved(model, directory),
        recipe=name,
        sparsity=None if fixed else 0.7,
        data={"x": x},
        settings=chosen,
        jobs=1,
        format="dense",
    )


def zeros_in(path: Path | None, names: tuple[str, ...]) -> int:
    assert path is not None
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    return sum(int((tensors[name] == 0).sum()) for name in names)


@pytest.mark.parametrize("name", list_recipes())
def test_a_method_runs_on_convolutions(name: str, tmp_path: Path):
    result = run(name, classifier(), tmp_path, images())
    fixed = load_recipe(name).pattern == "2:4"
    zeros = 8 * 9 + 8 * 8 * 9 // 2 + 4 * 8 // 2 if fixed else int(0.7 * 824)
    assert zeros_in(result.output, ("w1", "w2", "w3")) == zeros


@pytest.mark.parametrize("name", list_recipes())
def test_a_method_runs_on_matrix_products(name: str, tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((48, 10)).astype(np.float32)
    result = run(name, perceptron(), tmp_path, x)
    zeros = 8 // 2 * 16 + 16 // 2 * 4 if load_recipe(name).pattern == "2:4" else int(0.7 * 224)
    assert zeros_in(result.output, ("w1", "w2")) == zeros


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_weights_drawn_at_random_are_none_that_are_zero_already(pattern: str, tmp_path: Path):
    tensors = draw(0, w1=(16, 32), b1=(32,), w2=(32, 8), b2=(8,))
    rng = np.random.default_rng(0)
    for name in ("w1", "w2"):
        tensors[name][rng.permutation(tensors[name].size).reshape(tensors[name].shape) % 2 == 0] = 0
    model = network(PERCEPTRON.replace("[N,10]", "[N,16]").replace("[N,4]", "[N,8]"), tensors)
    result = api.compress(
        saved(model, tmp_path),
        recipe="random",
        sparsity=None if pattern == "2:4" else 0.5,
        data={"x": rng.standard_normal((48, 16)).astype(np.float32)},
        settings={"pattern": pattern, "training.epochs": 0},
        jobs=1,
        format="dense",
    )
    assert result.output is not None
    written = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(result.output).graph.initializer
    }
    for name in ("w1", "w2"):
        dense, sparse = tensors[name], written[name]
        np.testing.assert_array_equal(sparse[sparse != 0], dense[sparse != 0])
        stay = np.count_nonzero(dense.reshape(-1, 4, dense.shape[1]), axis=1)
        kept = np.minimum(stay, 2).sum() if pattern == "2:4" else dense.size // 2
        assert np.count_nonzero(sparse) == kept


@pytest.mark.parametrize("recovery", ["dynamic", "static-mask"])
def test_training_goes_on_from_reconstructed_layers(recovery: str, tmp_path: Path):
    chosen = SMALL | {
        "training.reconstruction": True,
        "training.recovery": recovery,
        "training.epochs": 2,
        "criterion": "second-order",
        "allocation.method": "lamp",
    }
    result = api.compress(
        saved(classifier(), tmp_path), sparsity=0.7, data={"x": images()}, settings=chosen, jobs=1,
        format="dense",
    )  # fmt: skip
    assert zeros_in(result.output, ("w1", "w2", "w3")) == int(0.7 * 824)
    assert result.report["training"]["steps"] == 6


def test_what_was_fitted_is_normalised_by_statistics_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    recalibrated = []

    def finished(job: Job, student: Student, *rest: Any) -> dict[str, np.ndarray]:
        recalibrated.append(len(student.normalizations))
        return finish.finished(job, student, *rest)

    monkeypatch.setattr(recover, "finished", finished)
    api.compress(
        saved(classifier(), tmp_path), sparsity=0.7, data={"x": images()}, jobs=1,
        settings=SMALL | {"training.reconstruction": True, "training.epochs": 1},
    )  # fmt: skip
    assert len(recalibrated) >= 4  # pruned, fitted twice and trained
    assert set(recalibrated) == {2}


@pytest.mark.parametrize(
    ("only", "learned"), [([], [0, 1]), (["w3"], [1]), (["w1", "w2"], [1])],
    ids=["all", "the scores alone", "all but the scores"],
)  # fmt: skip
def test_what_was_fitted_learns_inside_where_scores_are_made_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, only: list[str], learned: list[int]
):
    targets = []

    class Remembering(Trainer):
        def __init__(self, student: Student, *rest: Any) -> None:
            targets.append(len(student.targets))
            super().__init__(student, *rest)

    monkeypatch.setattr(recover, "Trainer", Remembering)
    result = api.compress(
        saved(classifier(), tmp_path), sparsity=0.7, data={"x": images()}, jobs=1,
        settings=SMALL | {"only": only, "training.reconstruction": True, "training.epochs": 1},
    )  # fmt: skip
    assert targets[: len(learned)] == learned
    assert result.report["training"]["untrained"] == []


@pytest.mark.parametrize("name", list_recipes())
def test_a_method_names_its_source(name: str):
    text = list_recipes()[name]
    inventions = {"unipts", "random", "static-mask", "magnitude-global"}
    assert "arXiv" in text or name in inventions


# Sensitivity


@st.composite
def curves(draw: st.DrawFn) -> list[tuple[np.ndarray, np.ndarray]]:
    made = []
    for _ in range(draw(st.integers(1, 4))):
        counts = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True))
        costs = draw(st.lists(st.integers(0, 20), min_size=len(counts), max_size=len(counts)))
        made.append((np.array(sorted(counts)), np.array(costs, float)))
    return made


@given(curves(), st.integers(1, 30))
def test_the_cheapest_allocation_is_found(layers, total: int):
    chosen = cheapest(layers, total)
    best = {0: 0.0}
    for counts, costs in layers:
        best = {
            spent + int(count): min(
                [before + cost]
                + [
                    b + c
                    for s, b in best.items()
                    for n, c in zip(counts, costs, strict=True)
                    if s + n == spent + count
                ]
            )
            for spent, before in best.items()
            for count, cost in zip(counts, costs, strict=True)
        }
    affordable = [cost for spent, cost in best.items() if spent <= total]
    if not affordable:
        assert chosen == [int(counts[0]) for counts, _ in layers]
        return
    cost = sum(
        float(costs[list(counts).index(count)])
        for (counts, costs), count in zip(layers, chosen, strict=True)
    )
    assert sum(chosen) <= total
    assert cost == min(affordable)


WEIGHTS = {
    name: np.random.default_rng(i).standard_normal((20, 20)).astype(np.float32)
    for i, name in enumerate("abc")
}


def test_sensitivity_keeps_where_removing_hurts():
    """Removing from b costs a hundred times what it costs elsewhere."""
    prices = {"a": 1.0, "b": 100.0, "c": 1.0}

    def score(candidates):
        return [-sum(prices[n] * (1 - k / 400) for n, k in kept.items()) for kept in candidates]

    kept = ALLOCATORS["sensitivity"](Problem(WEIGHTS, 0.5, score=score))
    assert sum(kept.values()) == 600
    assert kept["b"] > 390
    assert min(kept.values()) > 0


def test_sensitivity_goes_on_where_it_was_interrupted():
    calls = []

    def score(candidates):
        calls.append(len(candidates))
        return [-sum((400 - k) ** 2 for k in kept.values()) / 1e4 for kept in candidates]

    whole = History()
    expected = ALLOCATORS["sensitivity"](Problem(WEIGHTS, 0.8, score=score, history=whole))
    assert len(calls) == len(WEIGHTS)
    half = History()
    half.append(whole.generations[0])
    again = ALLOCATORS["sensitivity"](Problem(WEIGHTS, 0.8, score=score, history=half))
    assert again == expected
    assert len(calls) == 2 * len(WEIGHTS) - 1


def test_sensitivity_needs_something_that_scores():
    with pytest.raises(UsageError, match="needs calibration data"):
        ALLOCATORS["sensitivity"](Problem(WEIGHTS, 0.5))


# The least share of each layer


@pytest.mark.parametrize("method", ["uniform", "erk", "global", "lamp"])
@given(sparsity=st.floats(0.1, 0.99), minimum=st.floats(0, 0.99))
def test_each_layer_keeps_its_minimum(method: str, sparsity: float, minimum: float):
    weights = {"a": 100 * WEIGHTS["a"], "b": WEIGHTS["b"], "c": 1e-3 * WEIGHTS["c"]}
    problem = Problem(weights, sparsity, minimum=minimum)
    kept = ALLOCATORS[method](problem)
    assert sum(kept.values()) == problem.total
    least = min(minimum, problem.total / 1200)
    assert all(count >= int(least * 400) for count in kept.values())


def test_without_a_minimum_global_magnitude_empties_a_layer_of_small_weights():
    weights = {"a": WEIGHTS["a"], "b": 1e-3 * WEIGHTS["b"]}
    assert ALLOCATORS["global"](Problem(weights, 0.5))["b"] == 1
    assert ALLOCATORS["global"](Problem(weights, 0.5, minimum=0.1))["b"] == 40
