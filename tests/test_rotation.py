"""Streams are turned to where weights are sparser: what that is worth, and what stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from bottlenecks import (
    BOTTLENECKS,
    NORMALIZED,
    bottleneck_tensors,
    bottlenecks,
    normalized_tensors,
    orthogonal,
)
from compression import QUICK, UNTRAINED, compress, initializers
from hypothesis import given
from hypothesis import strategies as st
from small_networks import images, network, outputs, saved

from onnx_unipts import api
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import load_model, read_tensors, serialize, write_tensors
from onnx_unipts.rotation import rotatable, rotated_tensors, sparsest_rotation

pytestmark = pytest.mark.usefixtures("quick_simplification")

FILTERS = ("p1", "e1", "p2", "e2")
PRUNED = ["w0", *FILTERS, "w3"]


def hidden(seed: int = 0) -> onnx.ModelProto:
    """Return a model whose filters were sparse before its stream was turned at random."""
    tensors, rng = bottleneck_tensors(seed), np.random.default_rng(seed)
    for name in FILTERS:
        tensors[name] = tensors[name] * (rng.random(tensors[name].shape) < 0.3)
    turn = orthogonal(6, seed).astype(np.float32)
    for name in ("p1", "p2"):
        tensors[name] = np.tensordot(turn, tensors[name], (1, 0))
    for name in ("e1", "e2"):
        tensors[name] = np.moveaxis(np.tensordot(tensors[name], turn, (1, 1)), -1, 1)
    return network(BOTTLENECKS, tensors | {"b1": turn @ tensors["b1"]})


def lost(tensors: dict[str, np.ndarray], share: float = 0.7) -> float:
    """Return what the smallest ``share`` of the weights of all filters sum up to, squared."""
    squares = np.sort(np.concatenate([tensors[n].astype(np.float64).ravel() ** 2 for n in FILTERS]))
    return float(squares[: int(share * len(squares))].sum() / squares.sum())


def rotated(model: ir.Model, pruned: list[str] = PRUNED) -> dict[str, np.ndarray]:
    return rotated_tensors(model, rotatable(model, pruned))


@given(st.integers(0, 2**16), st.integers(2, 24))
def test_what_is_found_is_orthogonal_and_the_same_again(seed: int, width: int):
    vectors = np.random.default_rng(seed).standard_normal((3 * width, width)).astype(np.float32)
    one, other = (sparsest_rotation(vectors, np.full(3 * width, 0.3)) for _ in range(2))
    np.testing.assert_allclose(one @ one.T, np.eye(width), atol=1e-12)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("width", [16, 64])
def test_vectors_that_were_sparse_in_another_basis_are_sparse_again(width: int):
    rng = np.random.default_rng(width)
    sparse = rng.standard_normal((20 * width, width)) * (rng.random((20 * width, width)) < 0.2)
    vectors = (sparse @ orthogonal(width, 0)).astype(np.float32)
    found = vectors @ sparsest_rotation(vectors, np.full(len(vectors), 0.1)).T
    small = np.mean(np.abs(found) < 0.05)
    assert np.mean(np.abs(vectors) < 0.05) < 0.3
    assert small > 0.75


def test_filters_that_were_sparse_in_another_basis_lose_less_to_pruning(tmp_path: Path):
    model = load_model(saved(hidden(), tmp_path))
    found = rotated(model)
    assert sorted(found) == ["b1", "e1", "e2", "p1", "p2"]
    assert lost(found) < lost(read_tensors(model, FILTERS)) / 3


BOTH_NORMALIZED = NORMALIZED.replace(
    "s2 = Conv (d1, p2)", "c2 = Conv (d1, p2)\n    s2 = BatchNormalization (c2, o_s, o_b, o_m, o_v)"
)


def test_what_normalisations_scale_by_counts(tmp_path: Path):
    plain = load_model(saved(hidden(), tmp_path))
    tensors, rng = read_tensors(plain, [*FILTERS, "b1"]), np.random.default_rng(0)
    tensors |= {n: t for n, t in bottleneck_tensors().items() if n not in tensors}
    for key, norm in (("p1", "n"), ("p2", "o")):
        factor = np.exp(rng.uniform(-2, 2, 6)).astype(np.float32)
        tensors[key] = tensors[key] / factor[:, None, None, None]
        of_norm = {"s": factor, "v": np.ones(6), "m": np.zeros(6), "b": np.zeros(6)}
        tensors |= {f"{norm}_{part}": t.astype(np.float32) for part, t in of_norm.items()}
    tensors["b1"] = 0 * tensors["b1"]
    model = load_model(saved(network(BOTH_NORMALIZED, tensors), tmp_path, "normalized.onnx"))
    assert lost(rotated(model)) < lost(rotated(plain)) + 0.01


@pytest.mark.parametrize("text", [BOTTLENECKS, NORMALIZED], ids=["folded", "normalised"])
def test_the_rotated_model_computes_the_same(tmp_path: Path, text: str):
    used = {name: t for name, t in normalized_tensors().items() if name in text}
    model = load_model(saved(network(text, used), tmp_path))
    before = outputs(serialize(model), {"x": images(8)})[0]
    write_tensors(model, rotated(model))
    after = outputs(serialize(model), {"x": images(8)})[0]
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_filters_that_are_not_pruned_stay(tmp_path: Path):
    model = load_model(saved(hidden(), tmp_path))
    assert rotated(model, ["w0", "p1", "e1", "p2", "w3"]) == {}


def test_filters_that_are_sparse_already_stay(tmp_path: Path):
    tensors = bottleneck_tensors()
    tensors["e2"] = tensors["e2"] * (np.random.default_rng(1).random(tensors["e2"].shape) < 0.6)
    model = load_model(saved(network(BOTTLENECKS, tensors), tmp_path))
    assert rotated(model) == {}


def divergence(result: api.Result, when: str = "after_recovery") -> float:
    return result.report["fidelity"][when]["divergence"]


def test_what_is_only_pruned_is_nearer_to_the_dense_model(tmp_path: Path):
    found = []
    for on in (True, False):
        (tmp_path / str(on)).mkdir()
        settings = UNTRAINED | {"rotation": on, "only": FILTERS}
        found.append(compress(hidden(), tmp_path / str(on), settings, sparsity=0.7))
    turned, plain = found
    assert turned.report["rotation"] == {"streams": 1, "channels": 6}
    assert plain.report["rotation"] == {"streams": 0, "channels": 0}
    assert divergence(turned, "before_recovery") < divergence(plain, "before_recovery") / 2


def test_names_shapes_and_zeros_are_those_of_any_run(tmp_path: Path):
    result = compress(bottlenecks(), tmp_path, QUICK, sparsity=0.7)
    before, after = initializers(tmp_path / "m.onnx"), initializers(result.output)
    assert {n: t.shape for n, t in before.items() if n in after} == {
        n: t.shape for n, t in after.items() if n in before
    }
    assert result.report["sparsity"]["achieved"] == pytest.approx(0.7, abs=0.01)
    assert result.report["rotation"]["streams"] == 1


def test_a_recipe_of_its_own_method_rotates_nothing(tmp_path: Path):
    result = compress(bottlenecks(), tmp_path, {}, recipe="magnitude-uniform", sparsity=0.5)
    assert result.report["rotation"]["streams"] == 0
    before, after = initializers(tmp_path / "m.onnx"), initializers(result.output)
    for name in FILTERS:
        magnitudes = np.abs(before[name])
        np.testing.assert_array_equal(after[name] != 0, magnitudes > np.median(magnitudes))


def test_normalised_streams_are_turned_only_where_statistics_are_measured_anew(tmp_path: Path):
    model = network(NORMALIZED, normalized_tensors())
    streams = []
    for name, settings in (("trained", QUICK), ("untrained", UNTRAINED)):
        (tmp_path / name).mkdir()
        result = compress(model, tmp_path / name, settings, sparsity=0.3)
        streams.append(result.report["rotation"]["streams"])
        assert divergence(result) < 1
    assert streams == [1, 0]


def test_a_search_and_the_training_after_it_are_in_one_basis(tmp_path: Path):
    path = saved(hidden(), tmp_path)
    options: dict[str, Any] = {
        "sparsity": 0.6, "data": {"x": images()}, "settings": QUICK, "jobs": 2,
    }  # fmt: skip
    found = api.search(path, **options)
    assert (found.run_dir / "checkpoint-rotation.npz").is_file()
    resumed = api.compress(path, **options, format="dense", resume=True)
    (tmp_path / "afresh").mkdir()
    afresh = compress(hidden(), tmp_path / "afresh", QUICK, sparsity=0.6)
    assert resumed.output is not None
    assert afresh.output is not None
    assert resumed.output.read_bytes() == afresh.output.read_bytes()


def test_what_cannot_be_verified_is_not_rotated(tmp_path: Path):
    text = BOTTLENECKS.replace(
        "p = Global", "n = RandomNormalLike (r2) o = Add (r2, n)\n    p = Global"
    )
    text = text.replace("Pool (r2)", "Pool (o)")
    result = compress(network(text, bottleneck_tensors()), tmp_path, UNTRAINED)
    assert result.report["rotation"]["streams"] == 0


def test_scores_behind_an_index_are_compared_not_the_index(tmp_path: Path):
    text = BOTTLENECKS.replace("float[N,4] y", "int64[N] i").replace(
        "f, w3, b3)", "f, w3, b3)\n    i = ArgMax <axis = 1, keepdims = 0> (y)"
    )
    tied = bottleneck_tensors()
    tied |= {"w3": np.repeat(tied["w3"][:1], 4, 0), "b3": np.zeros(4, np.float32)}
    result = compress(network(text, tied), tmp_path, UNTRAINED)
    assert result.report["rotation"]["streams"] == 1


def test_rotation_is_true_or_false(tmp_path: Path):
    with pytest.raises(UsageError, match="rotation"):
        compress(bottlenecks(), tmp_path, QUICK | {"rotation": "sideways"})
