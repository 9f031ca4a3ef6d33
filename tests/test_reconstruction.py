"""A layer is a matrix on rows of inputs; fitted weights are the best ones under their mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_networks import (
    draw,
    moments_of,
    network,
    outputs,
    prepared,
    saved,
)

from onnx_unipts.graph.model import load_model
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.patterns import Layout, Masking
from onnx_unipts.progress import Quiet
from onnx_unipts.reconstruction import (
    LinearLayer,
    fitted,
    linear_layers,
    masked_least_squares,
    moments,
    reconstruct,
    walk,
)
from onnx_unipts.reconstruction.least_squares import PRIORS, _error
from onnx_unipts.student import Student, recalibrate

pytestmark = pytest.mark.usefixtures("quick_simplification")


# Layers as matrices


@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)
@settings(max_examples=40, deadline=None)
def test_a_convolution_is_its_matrix_times_its_rows(groups, kernel, strides, dilations, pads):
    rng = np.random.default_rng(0)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    assume(all(4 + pads[i] + pads[i + 2] >= reach[i] for i in (0, 1)))
    x = rng.standard_normal((3, 4, 4, 4)).astype(np.float32)
    weight = rng.standard_normal((8, 4 // groups, *kernel)).astype(np.float32)
    model = network(
        f"net (float[3,4,4,4] x) => (float[A,B,C,D] y) {{ y = Conv <group = {groups}, "
        f"strides = {list(strides)}, dilations = {list(dilations)}, pads = {list(pads)}> (x, w) }}",
        {"w": weight},
    )
    (expected,) = outputs(model, {"x": x})
    layer = LinearLayer("x", Layout(0, 1), groups, kernel, strides, dilations, pads)
    rows = layer.rows(x, np.random.default_rng(0))
    made = np.einsum("gok,grk->gor", layer.matrix(weight), rows)
    ours = np.sort(made.reshape(8, -1), axis=1)
    theirs = expected.transpose(1, 0, 2, 3).reshape(8, -1)  # all positions: at most 64
    np.testing.assert_allclose(ours, np.sort(theirs, axis=1), atol=1e-4)
    np.testing.assert_array_equal(layer.tensor(layer.matrix(weight), weight.shape), weight)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_that_follows_from_the_data(auto_pad: str, stride: int, tmp_path: Path):
    tensors = draw(0, w=(4, 2, 3, 2), u=(3, 4, 1, 1))
    model = network(
        f"""net (float[2,2,7,6] x) => (float[A,B,C,D] y) {{
            z = Conv <auto_pad = "{auto_pad}", strides = [{stride},1]> (x, w)
            y = Conv (z, u)
        }}""",
        tensors,
    )
    x = np.random.default_rng(0).standard_normal((2, 2, 7, 6)).astype(np.float32)
    (expected,) = outputs(model, {"x": x}, ["z"])
    layer = _layers(model, tmp_path)["w"]
    made = np.einsum("gok,grk->gor", layer.matrix(tensors["w"]), layer.rows(x, _seeded()))
    ours, theirs = made.reshape(4, -1), expected.transpose(1, 0, 2, 3).reshape(4, -1)
    np.testing.assert_allclose(np.sort(ours, axis=1), np.sort(theirs, axis=1), atol=1e-5)


def _seeded() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("body", "shape", "axes"),
    [
        ("y = MatMul (x, w)", (5, 4), (1, 0)),
        ("y = MatMul (w, x)", (4, 6), (0, 1)),
        ("y = Gemm (x, w)", (5, 4), (1, 0)),
        ("y = Gemm <transB = 1> (x, w)", (4, 5), (0, 1)),
        ("y = Gemm <transA = 1> (x, w)", (6, 4), (1, 0)),
        ("y = Gemm (w, x)", (4, 6), (0, 1)),
        ("y = Gemm <transA = 1> (w, x)", (6, 4), (1, 0)),
        ("y = Gemm <transB = 1> (w, x)", (4, 5), (0, 1)),
        ("v = Transpose (w) y = MatMul (x, v)", (4, 5), (0, 1)),
    ],
)
def test_a_matrix_product_is_its_matrix_times_its_rows(body, shape, axes, tmp_path: Path):
    tensors = draw(0, w=shape, v=(4, 3))
    inner = body.replace("y =", "z =")
    after = "Gemm <transA = 1> (z, u)" if "(w, x)" in body else "MatMul (z, u)"
    tensors = {"w": tensors["w"], "u": tensors["v"]}
    model = network(f"net (float[6,5] x) => (float[A,B] y) {{ {inner} y = {after} }}", tensors)
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    (expected,) = outputs(model, {"x": x}, ["z"])
    layer = _layers(model, tmp_path)["w"]
    assert (layer.layout.out_axis, layer.layout.in_axis) == axes
    (made,) = layer.rows(x, np.random.default_rng(0)) @ layer.matrix(tensors["w"]).swapaxes(1, 2)
    theirs = expected.T if "(w, x)" in body else expected
    np.testing.assert_allclose(made, theirs, atol=1e-5)


def _layers(model: onnx.ModelProto, directory: Path) -> dict[str, LinearLayer]:
    """Return the layers of a model as it is, its weights turned into inputs."""
    loaded = load_model(saved(model, directory))
    weights = {w.key: w for w in find_prunable(loaded)}
    working = loaded.clone()
    for name in weights:
        value = working.graph.initializers.pop(name)
        working.graph.inputs.append(value)
    student = Student(
        working, {n: np.zeros(w.shape, np.float32) for n, w in weights.items()}, tuple(weights),
        tuple(weights), (), (),
        masking=Masking(layouts={n: Layout.of(w) for n, w in weights.items()}),
    )  # fmt: skip
    return linear_layers(student)


def test_what_is_no_single_matrix_is_left_out(tmp_path: Path):
    body = """net (float[N,4,8,8] x) => (float[N,4,15,15] y) {
        a = Conv <pads = [1,1,1,1]> (x, w1)
        b = Conv <pads = [1,1,1,1]> (a, w1)
        c = Conv <pads = [1,1,1,1]> (b, w2)
        d = Conv <auto_pad = "VALID"> (c, w3)
        y = ConvTranspose <strides = [2,2]> (d, w4)
    }"""
    shapes = {"w1": (4, 4, 3, 3), "w2": (4, 4, 3, 3), "w3": (4, 4, 1, 1), "w4": (4, 4, 1, 1)}
    assert list(_layers(network(body, draw(0, **shapes)), tmp_path)) == ["w2", "w3"]


# Least squares


@given(st.integers(0, 1000), st.integers(1, 7), st.integers(1, 6), st.integers(1, 2))
@settings(max_examples=40, deadline=None)
def test_the_fitted_weights_are_the_least_squares_solution(seed, inputs, outs, groups):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((groups, 200, inputs))
    y = x + 0.3 * rng.standard_normal(x.shape)
    matrix = rng.standard_normal((groups, outs, inputs))
    mask = rng.random(matrix.shape) < 0.6
    solution = masked_least_squares(matrix, mask, moments_of(x, y))
    assert not solution[~mask].any()
    for group, out in np.ndindex(groups, outs):
        kept = mask[group, out]
        wanted = x[group] @ matrix[group, out]
        best = np.linalg.lstsq(y[group][:, kept], wanted, rcond=None)[0]
        ours, least = (
            np.square(wanted - y[group][:, kept] @ v).mean()
            for v in (solution[group, out, kept], best)
        )
        assert ours <= 1.01 * least + 1e-2 * np.square(wanted).mean()


def test_nothing_pruned_nothing_changes():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 50, 6))
    matrix = rng.standard_normal((1, 4, 6))
    solution = masked_least_squares(matrix, np.ones_like(matrix, bool), moments_of(x, x))
    np.testing.assert_allclose(solution, matrix, atol=1e-9)


def test_inputs_that_never_vary_do_no_harm():
    rows = np.zeros((1, 5, 3))
    rows[..., 0] = 1.0
    matrix = np.ones((1, 2, 3))
    solution = masked_least_squares(matrix, np.ones_like(matrix, bool), moments_of(rows, rows))
    np.testing.assert_allclose(solution, matrix, atol=1e-6)


def test_of_the_priors_the_one_that_does_best_on_rows_held_out():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((1, 16, 40))
    mask = rng.random(matrix.shape) < 0.7

    def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((1, count, 40))
        return x, x + 0.5 * rng.standard_normal(x.shape)

    def error(solution: np.ndarray) -> float:
        return float(np.square(x @ matrix.swapaxes(1, 2) - y @ solution.swapaxes(1, 2)).mean())

    seen, held_out = moments_of(*rows(36)), moments_of(*rows(12))
    ours = fitted(matrix, mask, seen, held_out)
    each = [masked_least_squares(matrix, mask, seen + held_out, prior) for prior in PRIORS]
    (best,) = (prior for prior, other in zip(PRIORS, each, strict=True) if (other == ours).all())
    x, y = rows(5000)
    assert best != PRIORS[0]
    assert error(ours) < 0.8 * error(each[0])


def test_fits_are_compared_by_their_squared_errors_on_the_rows():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1, 50, 6))
    matrix, *fits = rng.standard_normal((3, 1, 4, 6))
    ours = [_error(matrix, fit, moments_of(x, y)) for fit in fits]
    squared = [
        float(np.square(x @ matrix.swapaxes(1, 2) - y @ fit.swapaxes(1, 2)).sum()) for fit in fits
    ]
    assert ours[0] - ours[1] == pytest.approx(squared[0] - squared[1])


def test_a_classifier_keeps_apart_classes_of_which_it_saw_no_sample():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((1, 60, 80))
    magnitudes = np.abs(matrix)
    mask = magnitudes > np.median(magnitudes)

    def rows(classes: slice) -> np.ndarray:
        return matrix[:, classes] + 0.5 * rng.standard_normal(matrix[:, classes].shape)

    def error(solution: np.ndarray) -> float:
        return float(np.square(new @ (matrix - solution).swapaxes(1, 2)).mean())

    held_out, seen, new = (rows(slice(*ends)) for ends in ((0, 10), (10, 40), (40, 60)))
    ours = fitted(matrix, mask, moments_of(seen, seen), moments_of(held_out, held_out))
    both = moments_of(seen, seen) + moments_of(held_out, held_out)
    others = [masked_least_squares(matrix, mask, both, prior) for prior in PRIORS[:2]]
    assert error(ours) < 0.8 * min(map(error, others))
    assert error(ours) < 0.9 * error(np.where(mask, matrix, 0.0))


# A whole model


def test_a_reconstructed_model_is_nearer_to_the_dense_one_than_a_pruned_one(convolutional):
    student, data = convolutional
    kept = {name: int(0.4 * student.dense[name].size) for name in student.prunable}
    tensors, others = reconstruct(student, kept, data, 1, Quiet())
    assert others == []
    pruned = dict(student.dense)
    for name in student.prunable:
        mask = student.masking.mask(name, student.dense[name], kept[name])
        pruned[name] = student.dense[name] * mask
        np.testing.assert_array_equal(tensors[name] != 0, mask)
    layer = linear_layers(student)["w3"]
    x = data.batch(np.arange(64))
    errors = []
    tensors |= recalibrate(student, tensors, data, 32)
    for each in (tensors, pruned):
        made, dense = (
            outputs(student.with_tensors(t), x)[0] for t in (dict(each), dict(student.dense))
        )
        errors.append(float(np.square(made - dense).mean()))
    assert errors[0] < 0.5 * errors[1]
    assert layer.data


RESIDUAL = """net (float[N,8,6,6] x) => (float[N,4] y) {
    c1 = Conv <pads = [1,1,1,1]> (x, w1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2)
    a = Add (c2, x)
    r2 = Relu (a)
    p = GlobalAveragePool (r2)
    f = Flatten (p)
    t = Transpose <perm = [1,0]> (w3)
    h = MatMul (f, t)
    g = Mul (h, f)
    y = MatMul (g, w4)
}"""


def test_what_was_computed_on_the_way_is_what_a_run_from_the_inputs_computes(
    monkeypatch, tmp_path: Path
):
    tensors = draw(0, w1=(8, 8, 3, 3), w2=(8, 8, 3, 3), w3=(8, 8), w4=(8, 4))
    student, data = prepared(network(RESIDUAL, tensors), tmp_path, draw(1, x=(64, 8, 6, 6))["x"])
    kept = {name: student.dense[name].size // 2 for name in student.prunable}
    for node in student.model.graph:
        if node.op_type == "Relu":  # inferred of dynamic sizes, a shape may be wrong
            node.outputs[0].shape = ir.Shape(["N", 8, 0, 0])
    on_the_way, others = reconstruct(student, kept, data, 1, Quiet())
    assert not others
    monkeypatch.setattr(walk, "MEMORY", 0)
    from_the_inputs, _ = reconstruct(student, kept, data, 1, Quiet())
    for name in student.prunable:
        assert np.abs(on_the_way[name] - student.dense[name]).max() > 0.01
        np.testing.assert_allclose(on_the_way[name], from_the_inputs[name], atol=1e-4)


def test_a_layer_of_too_many_inputs_is_pruned_only(convolutional, monkeypatch: pytest.MonkeyPatch):
    student, data = convolutional
    kept = {name: student.dense[name].size // 2 for name in student.prunable}
    monkeypatch.setattr(moments, "PRODUCTS_MEMORY", 8 * 50**2)  # w2 has 72 inputs, w1 27
    tensors, left = reconstruct(student, kept, data, 1, Quiet())
    assert left == ["w2"]
    mask = student.masking.mask("w2", student.dense["w2"], kept["w2"])
    np.testing.assert_array_equal(tensors["w2"], student.dense["w2"] * mask)
