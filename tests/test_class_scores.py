"""The layer that scores classes is fitted so that answers stay, of classes without samples too."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_networks import (
    classifier,
    draw,
    images,
    largest,
    moments_of,
    network,
    outputs,
    prepared,
)

from onnx_unipts.progress import Quiet
from onnx_unipts.reconstruction import (
    chosen_support,
    class_means,
    fitted,
    fitted_scores,
    layer_at_positions,
    linear_layers,
    reconstruct,
    scoring_layers,
)
from onnx_unipts.student import Student
from onnx_unipts.targets import Target, divergence

pytestmark = pytest.mark.usefixtures("quick_simplification")

SCORES = Target("", "", "classes")


def student_of(model, directory: Path, x: np.ndarray, **losses: str) -> Student:
    return prepared(model, directory, x, **losses)[0]


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


@pytest.mark.parametrize("added", ["a = Add (m, b)", "a = Add (b, m)"])
@pytest.mark.parametrize("shape", [(6,), (1, 6)])
def test_a_product_to_which_a_bias_is_added_as_a_gemm_with_it(added, shape, tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
    head = "net (float[N,5] x) => (float[N,6] y) {{ h = MatMul (x, v) r = Relu (h) {} }}"
    tensors = draw(0, v=(5, 9), w=(9, 6), b=shape)
    apart = network(head.format(f"m = MatMul (r, w) {added} y = Softmax (a)"), tensors)
    as_one = network(head.format("a = Gemm (r, w, b) y = Softmax (a)"), tensors)
    fitted_in = []
    for name, model in (("apart", apart), ("as_one", as_one)):
        (tmp_path / name).mkdir()
        student, data = prepared(model, tmp_path / name, x)
        assert found(student) == {"w": "b"}
        kept = {each: student.dense[each].size // 3 for each in student.prunable}
        fitted_in.append(reconstruct(student, kept, data, 1, Quiet())[0])
    for each in ("v", "w", "b"):
        np.testing.assert_allclose(fitted_in[0][each], fitted_in[1][each], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        # read before the bias as well
        "m = MatMul (x, w) a = Add (m, b) y = Softmax (a) z = Relu (m)",
        # what is added is computed
        "m = MatMul (x, w) c = Relu (b) a = Add (m, c) y = Softmax (a) z = Relu (x)",
    ],
)
def test_a_product_whose_bias_is_not_all_that_comes_of_it_is_fitted_to_squares(body, tmp_path):
    x = np.random.default_rng(0).standard_normal((32, 5)).astype(np.float32)
    signature = "net (float[N,5] x) => (float[N,6] y, float[N,M] z)"
    model = network(f"{signature} {{ {body} }}", draw(0, w=(5, 6), b=(6,)))
    assert found(student_of(model, tmp_path, x)) == {}


@pytest.mark.parametrize(
    ("body", "shapes"),
    [
        # one number for all classes
        ("(float[N,5] x) => (float[N,6] y) { y = Gemm <transB = 1> (x, w, b) }", {"b": (1,)}),
        # the weight on the left: classes come first
        ("(float[N,5] x) => (float[6,N] y) { y = Gemm <transB = 1> (w, x, b) }", {"b": (6, 1)}),
        # softmax over three of the six
        (
            """(float[N,5] x) => (float[N,2,3] y) {
                s = Constant <value = int64[3] {-1, 2, 3}> ()
                g = Gemm <transB = 1> (x, w, b)
                r = Reshape (g, s)
                y = Softmax <axis = -1> (r)
            }""",
            {"b": (6,)},
        ),
        # all positions in one
        (
            "(float[N,5,2,2] x) => (float[N,24] y) { c = Conv (x, w, b) y = Flatten (c) }",
            {"w": (6, 5, 1, 1), "b": (6,)},
        ),
    ],
)
def test_scores_that_are_not_one_per_output_are_left_to_squared_errors(body, shapes, tmp_path):
    model = network(f"net {body}", draw(0, **{"w": (6, 5), **shapes}))
    size = (32, 5, 2, 2) if "[N,5,2,2]" in body else (32, 5)
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    student = student_of(model, tmp_path, x)
    assert list(linear_layers(student)) == ["w"]
    assert found(student) == {}


def test_few_rows_are_trusted_to_be_all_there_is():
    rng = np.random.default_rng(0)
    matrix, bias = rng.standard_normal((10, 64)), np.zeros(10)
    mask = np.abs(matrix) > 0.7
    x, new = rng.standard_normal((3, 64)), rng.standard_normal((500, 64))
    weights, added = fitted_scores(matrix, bias, mask, x, x)
    ours, pruned = (
        divergence(SCORES, 0.2 * new @ matrix.T, 0.2 * new @ each.T + moved)
        for each, moved in ((weights, added), (np.where(mask, matrix, 0.0), bias))
    )
    assert ours < 1.5 * pruned


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
    parts = [moments_of(x[None]) for x in (seen[:75], seen[75:])]
    by_squares = fitted(matrix[None], mask[None], *parts)[0]
    assert error(weights, added) < 0.95 * error(by_squares, bias)
    assert error(weights, added) < 0.7 * error(np.where(mask, matrix, 0.0), bias)


def test_the_bias_of_the_reconstructed_model_makes_up_for_the_mean(tmp_path: Path):
    student, data = prepared(classifier(), tmp_path, images(64))
    kept = {name: student.dense[name].size // 3 for name in student.prunable}
    tensors, others = reconstruct(student, kept, data, 1, Quiet())
    assert others == []
    assert (tensors["b3"] != student.dense["b3"]).all()
    assert tensors["b3"].shape == student.dense["b3"].shape
    assert np.count_nonzero(tensors["w3"]) == kept["w3"]


# Means of classes


def test_the_means_of_classes_are_those_of_a_linear_discriminant():
    rng = np.random.default_rng(0)
    classes, inputs = 200, 12
    turn, _ = np.linalg.qr(rng.standard_normal((inputs, inputs)))
    mixing = turn * np.linspace(0.4, 2.0, inputs)
    means = rng.standard_normal((classes, inputs))
    within = mixing @ mixing.T
    weights = means @ np.linalg.inv(within)
    rows = rng.standard_normal((40000, inputs)) @ mixing.T
    found, wanted = class_means(weights, rows), means - means.mean(axis=0)
    alike, without = (np.corrcoef(each.ravel(), wanted.ravel())[0, 1] for each in (found, weights))
    assert alike > without + 0.1


def test_positions_tell_how_inputs_of_unseen_classes_vary():
    errors = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        mixing = rng.standard_normal((60, 60)) / 60**0.5 + 0.3 * np.eye(60)
        means = rng.standard_normal((150, 60)) @ mixing
        matrix = 0.3 * means @ np.linalg.inv(mixing.T @ mixing + 0.05 * np.eye(60))
        choice = partial(largest, kept=matrix.size // 5)
        search = partial(chosen_support, choice=choice)
        mask, bias = choice(np.abs(matrix)), np.zeros(150)
        seen, new = (
            means[part] + rng.standard_normal((len(means[part]), 60)) @ mixing
            for part in (slice(0, 40), slice(50, 150))
        )
        positions = rng.standard_normal((2000, 60)) @ mixing
        for known in (None, positions):
            weights, moved = fitted_scores(
                matrix, bias, mask, seen, seen, search=search, positions=known
            )
            errors.append(divergence(SCORES, new @ matrix.T, new @ weights.T + moved))
    assert sum(errors[1::2]) < 0.6 * sum(errors[::2])


# A layer behind a mean over positions


@pytest.mark.parametrize(
    ("mean", "size", "axis"),
    [
        ("g = GlobalAveragePool (x) p = Flatten (g)", "5,4,3", 1),
        ("g = AveragePool <kernel_shape = [4,3]> (x) c = Clip (g) p = Flatten (c)", "5,4,3", 1),
        ("p = ReduceMean <axes = [2,3], keepdims = 0> (x)", "5,4,3", 1),
        ("p = ReduceMean <axes = [-2], keepdims = 0> (x)", "12,5", -1),
    ],
)
def test_rows_at_positions_have_the_mean_that_the_layer_takes(mean, size, axis, tmp_path: Path):
    body = f"net (float[N,{size}] x) => (float[N,6] y) {{ {mean} y = MatMul (p, w) }}"
    shape = (32, *map(int, size.split(",")))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    student = student_of(network(body, draw(0, w=(5, 6))), tmp_path, x)
    inner = layer_at_positions(student, "w", linear_layers(student)["w"])
    assert inner is not None
    rows = inner.rows(x, np.random.default_rng(0))[0]
    (wanted,) = outputs(student.with_tensors(student.dense), {"x": x}, ["p"])
    np.testing.assert_allclose(rows.reshape(32, -1, 5).mean(axis=1), wanted, atol=1e-5)
    assert x.shape[axis] == rows.shape[1]


@pytest.mark.parametrize(
    "body",
    [
        "(float[N,5] x) => (float[N,6] y) { y = MatMul (x, w) }",
        "(float[N,5] x) => (float[N,6] y) { a = Tanh (x) y = MatMul (a, w) }",
        "(float[N,5,4] x) => (float[N,6] y) { g = GlobalMaxPool (x) p = Flatten (g) "
        "y = MatMul (p, w) }",
        "(float[N,5,4,4] x) => (float[N,4,6] y) { m = ReduceMean <axes = [3], keepdims = 0> (x) "
        "t = Transpose <perm = [0,2,1]> (m) y = MatMul (t, w) }",
        # over the samples as well
        "(float[N,5,4,4] x) => (float[1,6] y) { m = ReduceMean <axes = [0,2,3], keepdims = 1> (x) "
        "f = Flatten (m) y = MatMul (f, w) }",
    ],
)
def test_no_mean_over_all_positions_no_rows_at_positions(body: str, tmp_path: Path):
    shape = (32, *(int(size) for size in body.split("]")[0].split(",")[1:]))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    student = student_of(network(f"net {body}", draw(0, w=(5, 6))), tmp_path, x)
    assert layer_at_positions(student, "w", linear_layers(student)["w"]) is None


@pytest.mark.parametrize(
    ("heads", "shapes"),
    [
        ("y = Gemm <transB = 1> (f, w3, b3) z = Gemm <transB = 1> (f, w4, b4)", ((4, 8), (5, 8))),
        (
            """s = Constant <value = int64[2] {-1, 4}> ()
            r = Reshape (f, s)
            y = Gemm <transB = 1> (r, w3, b3)
            z = Gemm <transB = 1> (f, w4, b4)""",
            ((4, 4), (5, 8)),
        ),
    ],
)
def test_two_layers_of_scores_behind_one_mean_are_both_fitted(heads, shapes, tmp_path: Path):
    body = f"""net (float[N,3,8,8] x) => (float[M,4] y, float[N,5] z) {{
        c = Conv (x, w1)
        p = GlobalAveragePool (c)
        f = Flatten (p)
        {heads}
    }}"""
    tensors = draw(0, w1=(8, 3, 3, 3), w3=shapes[0], w4=shapes[1], b3=(4,), b4=(5,))
    student, data = prepared(network(body, tensors), tmp_path, images(64))
    kept = {name: student.dense[name].size // 3 for name in student.prunable}
    _, others = reconstruct(student, kept, data, 1, Quiet(), search_masks=True)
    assert others == []
