"""From a model file to a sparse one: the user's own, with exactly the zeros asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compression import (
    PRUNABLE,
    QUICK,
    SEARCHED,
    UNTRAINED,
    compress,
    floor_of,
    initializers,
    vectors,
    zeros_in,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import (
    CLASSIFIER,
    NORMALIZED,
    PERCEPTRON,
    classifier,
    classifier_tensors,
    images,
    network,
    normalized,
    outputs,
    perceptron,
)

from onnx_unipts.recipe import load_recipe

pytestmark = pytest.mark.usefixtures("quick_simplification")


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], Any, tuple[str, ...]]] = {
    "folded normalisations": (classifier, None, ("w1", "w2", "w3")),
    "kept normalisations": (normalized, None, ("w1", "w2", "w3")),
    "matrix products": (perceptron, {"x": vectors()}, ("w1", "w2")),
    "an older opset": (
        lambda: network(CLASSIFIER, classifier_tensors(), opset=11, ir_version=6),
        None,
        ("w1", "w2", "w3"),
    ),
    "a newer opset": (
        lambda: network(CLASSIFIER, classifier_tensors(), opset=21, ir_version=10),
        None,
        ("w1", "w2", "w3"),
    ),
    "no bias": (
        lambda: network(
            CLASSIFIER.replace("(x, w1, b1)", "(x, w1)").replace("(r1, w2, b2)", "(r1, w2)"),
            {n: t for n, t in classifier_tensors().items() if n not in ("b1", "b2")},
        ),
        None,
        ("w1", "w2", "w3"),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_sparse_model_is_the_users_model_with_exactly_the_zeros(name: str, tmp_path: Path):
    make, data, pruned = MODELS[name]
    model = make()
    model.graph.node[0].name = "the first"
    model.producer_name, model.doc_string = "somebody", "of theirs"
    result = compress(model, tmp_path, data=data)
    assert result.output == tmp_path / "m.sparse.onnx"
    sparse = onnx.load(result.output)
    onnx.checker.check_model(sparse)
    for field in ("ir_version", "opset_import", "producer_name", "doc_string"):
        assert getattr(sparse, field) == getattr(model, field)
    for field in ("name", "input", "output"):
        assert getattr(sparse.graph, field) == getattr(model.graph, field)
    kinds = [(node.op_type, node.name, node.output) for node in sparse.graph.node]
    assert kinds == [(node.op_type, node.name, node.output) for node in model.graph.node]
    before, after = initializers(tmp_path / "m.onnx"), initializers(result.output)
    total = sum(before[key].size for key in pruned)
    assert zeros_in(result.output, *pruned) == floor_of(0.8, total)
    for key, tensor in before.items():
        assert after[key].shape == tensor.shape
        assert after[key].dtype == tensor.dtype
    assert all(name.removesuffix("/bias") in before for name in after)
    x = (data or {"x": images()})["x"]
    for batch in (1, 7):
        (y,) = outputs(result.output, {"x": x[:batch]})
        assert y.shape == (batch, 4)
        assert np.isfinite(y).all()


@given(
    thousandths=st.integers(1, 999),
    hidden=st.integers(1, 7),
    method=st.sampled_from(["uniform", "erk", "global", "lamp"]),
)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_zeros_are_the_floor_of_the_target_for_any_target(
    tmp_path: Path, thousandths: int, hidden: int, method: str
):
    rng = np.random.default_rng(hidden)
    shapes = {"w1": (10, hidden), "b1": (hidden,), "w2": (hidden, 4), "b2": (4,)}
    tensors = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    sparsity = thousandths / 1000
    result = compress(
        network(PERCEPTRON, tensors),
        tmp_path,
        UNTRAINED | {"allocation.method": method},
        sparsity=sparsity,
        data={"x": vectors()},
    )
    assert result.output is not None
    zeros = floor_of(sparsity, 14 * hidden)
    assert zeros_in(result.output, "w1", "w2") == zeros
    assert result.report["sparsity"]["zeros"] == zeros


def test_pruned_are_the_smallest_weights_where_nothing_is_trained(tmp_path: Path):
    chosen = UNTRAINED | {"allocation.method": "global"}
    result = compress(perceptron(), tmp_path, chosen, data={"x": vectors()})
    assert result.output is not None
    before, after = initializers(tmp_path / "m.onnx"), initializers(result.output)
    magnitudes = np.concatenate([np.abs(before[name]).ravel() for name in ("w1", "w2")])
    threshold = np.sort(magnitudes)[floor_of(0.8, 224)]
    for name in ("w1", "w2"):
        expected = np.where(np.abs(before[name]) >= threshold, before[name], 0)
        np.testing.assert_array_equal(after[name], expected)
    np.testing.assert_array_equal(after["b1"], before["b1"])


def test_excluded_layers_stay_as_they_are(tmp_path: Path):
    result = compress(classifier(), tmp_path, QUICK | {"exclude": ["w2"]})
    assert result.output is not None
    before, after = initializers(tmp_path / "m.onnx"), initializers(result.output)
    np.testing.assert_array_equal(after["w2"], before["w2"])
    assert zeros_in(result.output, "w1", "w3") == floor_of(0.8, PRUNABLE - before["w2"].size)


def test_training_recovers_what_pruning_cost(tmp_path: Path):
    longer = QUICK | {"training.epochs": 30, "training.augment": False}
    fidelity = compress(classifier(), tmp_path, longer).report["fidelity"]
    assert (
        fidelity["after_recovery"]["divergence"] < 0.5 * fidelity["before_recovery"]["divergence"]
    )


def test_several_inputs_are_compressed_together(tmp_path: Path):
    text = CLASSIFIER.replace("float[N,3,8,8] x", "float[N,3,8,8] x, float[N,8] u").replace(
        "y = Gemm <transB = 1> (f,", "g = Add (f, u) y = Gemm <transB = 1> (g,"
    )
    u = np.random.default_rng(0).standard_normal((48, 8)).astype(np.float32)
    model = network(text, classifier_tensors())
    result = compress(model, tmp_path, SEARCHED, data={"x": images(), "u": u})
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.8, PRUNABLE)


ODD: dict[str, Callable[[], onnx.ModelProto]] = {
    "a fixed batch of one": lambda: network(CLASSIFIER.replace("[N,", "[1,"), classifier_tensors()),
    "half precision": lambda: network(
        CLASSIFIER.replace("float[", "float16["),
        {name: value.astype(np.float16) for name, value in classifier_tensors().items()},
    ),
    "a bias added behind, as TensorFlow exports": lambda: network(
        CLASSIFIER.replace(
            "c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)",
            "c0 = Conv <pads = [1,1,1,1]> (x, w1) c1 = Add (c0, b1)",
        ),
        classifier_tensors() | {"b1": classifier_tensors()["b1"].reshape(1, 8, 1, 1)},
    ),
    "scores and their softmax": lambda: network(
        CLASSIFIER.replace("float[N,4] y", "float[N,4] y, float[N,4] q").replace(
            "w3, b3)", "w3, b3) q = Softmax <axis = 1> (y)"
        ),
        classifier_tensors(),
    ),
    "a scalar output beside the scores": lambda: network(
        CLASSIFIER.replace("float[N,4] y", "float[N,4] y, float s").replace(
            "w3, b3)", "w3, b3) s = ReduceMean <keepdims = 0> (y)"
        ),
        classifier_tensors(),
    ),
    "a layer of zeros": lambda: network(
        CLASSIFIER, classifier_tensors() | {"w2": np.zeros((8, 8, 3, 3), np.float32)}
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_models_are_compressed_to_the_target(name: str, tmp_path: Path):
    model = ODD[name]()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    result = compress(model, tmp_path, data={"x": images().astype(dtype)})
    assert result.output is not None
    pruned = ("w1", "w2", "w3")
    already = zeros_in(tmp_path / "m.onnx", *pruned)
    assert zeros_in(result.output, *pruned) == max(floor_of(0.8, PRUNABLE), already)


def test_a_model_whose_equal_tensors_are_one_is_trained(tmp_path: Path):
    text = NORMALIZED.replace("s1, b1, m1, v1", "ones, zeros, zeros, ones")
    text = text.replace("s2, b2, m2, v2", "ones, zeros, nothing, alike").replace(
        "c2 = Conv", "nothing = Identity (zeros) alike = Identity (ones) c2 = Conv"
    )
    tensors = {n: t for n, t in classifier_tensors().items() if n not in ("b1", "b2")}
    tensors |= {"ones": np.ones(8, np.float32), "zeros": np.zeros(8, np.float32)}
    result = compress(network(text, tensors), tmp_path)
    assert result.output is not None
    assert result.report["training"]["steps"] > 0
    assert not any("without training" in warning for warning in result.report["warnings"])
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.8, PRUNABLE)
    after = initializers(result.output)
    for name in ("ones", "zeros"):
        np.testing.assert_array_equal(after[name], tensors[name])


@pytest.mark.parametrize("normalised", [False, True])
def test_what_no_gradient_reaches_is_pruned_and_named(normalised: bool, tmp_path: Path):
    """Here the layers behind an operator that has no gradient."""
    tail = "w3, b3) c4 = Conv <pads = [1,1,1,1]> (r1, w4)"
    tail += " n4 = BatchNormalization (c4, s, b1, b2, v)" if normalised else " n4 = Relu (c4)"
    text = CLASSIFIER.replace("float[N,4] y", "float[N,4] y, float[N,8,8,8] k").replace(
        "w3, b3)", f"{tail} k = Hardmax <axis = 1> (n4)"
    )
    tensors = classifier_tensors() | {"w4": classifier_tensors(1)["w2"]}
    if normalised:
        tensors |= {"s": np.ones(8, np.float32), "v": np.ones(8, np.float32)}
    result = compress(network(text, tensors), tmp_path, QUICK | {"training.epochs": 10})
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3", "w4") == floor_of(0.8, PRUNABLE + 576)
    assert "w4" in result.report["training"]["untrained"]
    assert "w1" not in result.report["training"]["untrained"]
    assert any("w4" in warning for warning in result.report["warnings"])


def test_a_closing_logsoftmax_does_not_hide_what_pruning_costs(tmp_path: Path):
    text = CLASSIFIER.replace("y = Gemm", "z = Gemm").replace(
        "w3, b3)", "w3, b3) y = LogSoftmax <axis = 1> (z)"
    )
    result = compress(network(text, classifier_tensors()), tmp_path, UNTRAINED, sparsity=0.95)
    assert result.report["fidelity"]["before_recovery"]["divergence"] > 0.1


def test_training_at_a_wild_rate_falls_back_on_a_lower_one_or_on_none(tmp_path: Path):
    wild = QUICK | {"training.epochs": 40, "training.learning_rate": 10.0}
    result = compress(perceptron(), tmp_path, wild, data={"x": 1e6 * vectors()})
    assert any("at a learning rate of 10" in warning for warning in result.report["warnings"])
    fidelity = result.report["fidelity"]
    after, before = (fidelity[f"{stage}_recovery"]["divergence"] for stage in ("after", "before"))
    assert after <= before


@pytest.mark.parametrize(
    ("recipe", "make", "factor"),
    [
        ("unipts", classifier, 1.0),
        ("unipts", perceptron, 1e15),
        ("obs", classifier, 1.0),
        ("obs", perceptron, 1.0),
        ("obs", perceptron, 1e15),
        ("alps", classifier, 1e15),
        ("alps", perceptron, 1.0),
        ("pot", classifier, 1e15),
        ("wanda", classifier, 1.0),
        ("wanda", perceptron, 1e15),
    ],
)
def test_values_too_large_for_single_precision_leave_weights_finite(
    recipe, make, factor, tmp_path: Path
):
    x = factor * (images() if make is classifier else vectors())
    x[3].flat[5] = 1e20
    settings = {"training.epochs": 1, "training.batch_size": 16} if recipe == "unipts" else {}
    result = compress(make(), tmp_path, settings, data={"x": x}, recipe=load_recipe(recipe))
    assert result.output is not None
    for tensor in initializers(result.output).values():
        assert np.isfinite(tensor).all()
    names = ("w1", "w2", "w3") if make is classifier else ("w1", "w2")
    count = sum(initializers(result.output)[name].size for name in names)
    assert zeros_in(result.output, *names) == floor_of(0.8, count)


def test_the_papers_recipe_runs_with_smaller_budgets(tmp_path: Path):
    small = {key: value for key, value in SEARCHED.items() if "method" not in key}
    labels = np.arange(48) % 4
    result = compress(
        classifier(),
        tmp_path,
        small | {"num_samples": 48},
        data={"x": images(), "labels": labels},
        recipe=load_recipe("unipts-paper"),
    )
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.8, PRUNABLE)
    assert result.report["recipe"]["training"]["objective"] == "base-decayed-kl"
