"""Allocation by what layers lose although they are fitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from small_networks import classifier, draw, images, network, prepared, saved

from onnx_unipts import api
from onnx_unipts.allocation import ALLOCATORS, Problem
from onnx_unipts.allocation.problem import History
from onnx_unipts.allocation.tempered_lamp import spared
from onnx_unipts.callbacks import Generation
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import load_model, read_tensors
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.job import Job
from onnx_unipts.layer_scoring import LayerScorer
from onnx_unipts.patterns import Layout, Masking
from onnx_unipts.recipe import load_recipe
from onnx_unipts.reconstruction import walk

pytestmark = pytest.mark.usefixtures("quick_simplification")

TWINS = """net (float[N,8] x) => (float[N,6] y) {
    h = MatMul (x, w1)
    t = Concat <axis = 1> (h, h, h, h, h, h, h, h)
    r = Relu (t)
    y = MatMul (r, w2)
}"""


class Prices:
    """Each weight of a layer costs what ``prices`` say; ``asked`` are the layers scored."""

    samples = 10

    def __init__(self, **prices: float) -> None:
        self.prices, self.asked = prices, list[str]()

    def __call__(self, name: str, levels: Sequence[int]) -> list[float]:
        self.asked.append(name)
        return [-self.prices[name] * (1 - level / 400) ** 2 for level in levels]


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return draw(0, **shapes)


SQUARES = weights(a=(20, 20), b=(20, 20), c=(20, 20))


def allocated(sparsity: float, **facts) -> dict[str, int]:
    return ALLOCATORS["fitted-sensitivity"](Problem(SQUARES, sparsity, **facts))


def test_it_keeps_where_removing_hurts():
    kept = allocated(0.5, layer_score=Prices(a=1.0, b=100.0, c=1.0))
    assert sum(kept.values()) == 600
    assert kept["b"] > 380
    assert min(kept.values()) > 50


def test_it_goes_on_where_it_was_interrupted():
    whole, half = History(), History()
    score = Prices(a=1.0, b=2.0, c=4.0)
    expected = allocated(0.8, layer_score=score, history=whole)
    half.append(whole.generations[0])
    assert allocated(0.8, layer_score=score, history=half) == expected
    assert score.asked == ["a", "b", "c", "b", "c"]
    assert {record["images"] for record in whole.generations} == {60}


def test_it_needs_something_to_fit_to():
    with pytest.raises(UsageError, match="needs calibration data"):
        allocated(0.5)


def test_infinite_distortions_are_avoided():
    score = Prices(a=float("inf"), b=1.0, c=1.0)
    kept = allocated(0.5, layer_score=score)
    assert sum(kept.values()) == 600
    assert kept["a"] == 400


def test_filters_of_one_channel_stay_where_they_are_few():
    tensors = weights(deep=(16, 1, 3, 3), wide=(40, 40))
    layouts = {"deep": Layout(0, 1, in_groups=1), "wide": Layout(0, 1)}
    problem = Problem(
        tensors, 0.5, masking=Masking(layouts=layouts), layer_score=Prices(deep=0.0, wide=1.0)
    )
    assert spared(problem) == {"deep"}
    kept = ALLOCATORS["fitted-sensitivity"](problem)
    assert kept["deep"] == 144
    assert sum(kept.values()) == problem.total


def test_fitted_layers_end_nearer_than_by_what_they_lose_unfitted(tmp_path: Path):
    tensors = draw(0, w1=(8, 8), w2=(64, 6))
    x = np.random.default_rng(0).standard_normal((256, 8)).astype(np.float32)
    left = {}
    for method in ("sensitivity", "fitted-sensitivity"):
        run = api.compress(
            saved(network(TWINS, tensors), tmp_path),
            sparsity=0.7,
            data={"x": x},
            recipe="pot",
            settings={"allocation.method": method, "training.losses": {"y": "mse"}},
            jobs=1,
        )
        left[method] = run.report["fidelity"]["after_recovery"]["error"]
    assert left["fitted-sensitivity"] < 0.75 * left["sensitivity"]


def test_nothing_is_measured_where_nothing_is_to_choose():
    score = Prices()
    kept = allocated(0.0, layer_score=score)
    assert kept == {"a": 400, "b": 400, "c": 400}
    assert score.asked == []


def test_other_layers_may_have_it_all(tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((20, 10)).astype(np.float32)
    tensors = draw(0, w1=(10, 10), w2=(10, 10))
    body = "net (float[N,10] x) => (float[N,10] y) { h = MatMul (x, w1) y = MatMul (h, w2) }"
    run = api.compress(
        saved(network(body, tensors), tmp_path), sparsity=0.5, data={"x": x}, jobs=1,
        settings={"layer_sparsity": {"w1": 0.0}, "training.epochs": 1}, format="dense",
    )  # fmt: skip
    written = read_tensors(load_model(run.output), ["w1", "w2"])
    assert np.count_nonzero(written["w1"]) == 100
    assert np.count_nonzero(written["w2"]) == 0


def test_channels_are_not_fitted_one_by_one(tmp_path: Path):
    with pytest.raises(UsageError, match="fitted-sensitivity"):
        api.compress(
            saved(classifier(), tmp_path), sparsity=0.5, data={"x": images()}, jobs=1,
            settings={"pattern": "channel", "allocation.method": "fitted-sensitivity"},
        )  # fmt: skip


@pytest.mark.parametrize("stop", [1, None])
def test_a_run_of_few_samples_is_resumed(stop: int | None, tmp_path: Path):
    path, written = saved(classifier(), tmp_path), []

    def compress(name: str, **options) -> np.ndarray:
        run = api.compress(
            path, sparsity=0.5, data={"x": images(20)}, jobs=1, format="dense",
            settings={"training.epochs": 1}, output=tmp_path / name,
            run_dir=tmp_path / f"{name}.run", **options,
        )  # fmt: skip
        return read_tensors(load_model(run.output), ["w2"])["w2"]

    def generation(found: Generation) -> None:
        written.append(found)
        assert found.total == 3
        if found.number == stop:
            raise KeyboardInterrupt

    whole = compress("whole.onnx")
    if stop is None:
        compress("part.onnx", on_generation=generation)
    else:
        with pytest.raises(KeyboardInterrupt):
            compress("part.onnx", on_generation=generation)
    np.testing.assert_array_equal(compress("part.onnx", resume=True), whole)
    assert len(written) == (3 if stop is None else 2)


@pytest.mark.parametrize("memory", [0, 250_000, 1 << 27])
def test_layers_are_scored_in_any_order(memory: int, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(walk, "MEMORY", memory)
    student, data = prepared(classifier(), tmp_path, images(64))
    path, model = tmp_path / "m.onnx", load_model(tmp_path / "m.onnx")
    recipe, weights = load_recipe("unipts"), find_prunable(model)
    job = Job(path, path, recipe, 0.5, model, weights, data, None, "", 1)
    names = list(student.prunable)
    sizes = {name: student.dense[name].size for name in names}
    found = []
    for order in (names, names[::-1], [*names, names[0]]):
        score = LayerScorer(job, student)
        found.append({n: score(n, [sizes[n] // 4, sizes[n] // 2, sizes[n]]) for n in order})
    assert score.samples == 16
    for name in names:
        few, half, whole = found[0][name]
        assert few < half < whole
        assert whole == pytest.approx(0, abs=1e-3)
        assert found[1][name] == pytest.approx(found[0][name], rel=1e-6)
        assert found[2][name] == pytest.approx(found[0][name], rel=1e-6)


def test_few_real_samples_are_allocated_so_by_default(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    settings = {"training.epochs": 1, "training.adaptation": 0}
    for data, expected in (({"x": images(20)}, "fitted-sensitivity"), (None, "tempered-lamp")):
        run = api.compress(
            path, sparsity=0.5, data=data, settings=settings | {"num_samples": 20}, jobs=1,
            output=tmp_path / f"{expected}.onnx",
        )  # fmt: skip
        document = json.loads((run.run_dir / "allocation.json").read_text())
        assert document["method"] == expected
