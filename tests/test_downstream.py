"""A layer is fitted to what comes of it: behind its normalisation, a sum and an activation."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import draw, images, moments_of, network, outputs, prepared

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph.normalization import Normalization
from onnx_unipts.patterns import Layout
from onnx_unipts.progress import Quiet
from onnx_unipts.reconstruction import (
    LinearLayer,
    layer_fit,
    masked_least_squares,
    reconstruct,
    walk,
)
from onnx_unipts.reconstruction.downstream import Downstream, find_downstream
from onnx_unipts.reconstruction.downstream_fit import fitted_downstream
from onnx_unipts.reconstruction.linear_layer import linear_layers
from onnx_unipts.reconstruction.views import FittingRuns
from onnx_unipts.reconstruction.walk import Rows
from onnx_unipts.student import Student, recalibrate
from onnx_unipts.targets import divergence

pytestmark = pytest.mark.usefixtures("quick_simplification")

NORM = Normalization("n", "scale", "bias", "mean", "variance", 1e-5, 6)


# What comes behind


def behind(body: str, directory: Path, opset: int = 17) -> dict[str, Downstream]:
    """Return what is found behind the layers of ``body``, which makes z of x through w."""
    tensors = draw(0, w=(6, 6, 1, 1), u=(4, 6, 1, 1))
    text = f"net (float[N,6,6,6] x) => (float[N,4,6,6] y) {{ {body} y = Conv (z, u) }}"
    student, _ = prepared(network(text, tensors, opset=opset), directory, images(16, 0, 6, 6))
    return find_downstream(student, linear_layers(student))


@pytest.mark.parametrize(
    ("body", "lowest", "highest"),
    [
        ("c = Conv (x, w) z = Relu (c)", 0.0, math.inf),
        ("c = Conv (x, w) z = HardSwish (c)", -math.inf, math.inf),
        (
            "l = Constant <value_float = -1.0> () h = Constant <value_float = 6.0> () "
            "c = Conv (x, w) z = Clip (c, l, h)",
            -1.0,
            6.0,
        ),
        ("l = Constant <value_float = 1.0> () c = Conv (x, w) z = Clip (c, l)", 1.0, math.inf),
        ("c = Conv (x, w) r = Relu (c) z = Add (r, c)", -math.inf, math.inf),
    ],
)
def test_bounds_are_those_of_the_activation(body, lowest, highest, tmp_path: Path):
    found = behind(body, tmp_path)["w"]
    assert (found.added, found.lowest, found.highest) == ("", lowest, highest)
    assert found.bounded == (lowest > -math.inf)


def test_bounds_of_one_element_are_bounds(tmp_path: Path):
    constants = (
        "l = Constant <value_floats = [0.0]> () h = Constant <value_floats = [6.0]> () "
        "c = Conv (x, w) z = Clip (c, l, h)"
    )
    found = behind(constants, tmp_path)["w"]
    assert (found.lowest, found.highest) == (0.0, 6.0)


def test_a_normalisation_that_shares_its_bias_is_left_alone(tmp_path: Path):
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    tensors = draw(0, w=(6, 6, 1, 1), v=(6, 6, 1, 1), u=(4, 6, 1, 1))
    tensors |= {"s": ones, "t": 2 * ones, "b": zeros, "m": zeros, "q": ones}
    text = """net (float[N,6,6,6] x) => (float[N,4,6,6] y) {
        c = Conv (x, w) n = BatchNormalization (c, s, b, m, q) r = Relu (n)
        d = Conv (r, v) o = BatchNormalization (d, t, b, m, q) e = Relu (o)
        y = Conv (e, u)
    }"""
    student, _ = prepared(network(text, tensors), tmp_path, images(16, 0, 6, 6))
    found = find_downstream(student, linear_layers(student))
    shared = [norm.bias for norm in student.normalizations]
    assert len(set(shared)) < len(shared)
    assert not found.keys() & {"w", "v"}


def test_what_a_sum_broadcasts_is_not_made_up_for(tmp_path: Path):
    tensors = draw(0, w=(6, 6, 1, 6), v=(6, 6, 6, 1), u=(4, 6, 1, 1))
    text = """net (float[N,6,6,6] x) => (float[N,4,6,6] y) {
        c = Conv (x, w) d = Conv (x, v) a = Add (c, d) r = Relu (a) y = Conv (r, u)
    }"""
    student, data = prepared(network(text, tensors), tmp_path, images(16, 0, 6, 6))
    layers = linear_layers(student)
    assert find_downstream(student, layers)["v"].added
    steps = walk.Walk(student, FittingRuns(student, data), 1)
    added = find_downstream(student, layers)["v"].added
    assert not steps.rows("v", layers["v"], student.dense, 1000, added).dense_beside


def test_bounds_of_an_old_clip_are_attributes(tmp_path: Path):
    found = behind("c = Conv (x, w) z = Clip <min = 0.0, max = 6.0> (c)", tmp_path, opset=10)["w"]
    assert (found.lowest, found.highest) == (0.0, 6.0)


def test_bounds_behind_a_sum_are_those_of_the_sum(tmp_path: Path):
    found = behind("c = Conv (x, w) a = Add (x, c) z = Relu (a)", tmp_path)["w"]
    assert (found.added, found.lowest) == ("x", 0.0)


def test_a_sum_that_is_read_twice_has_no_bounds(tmp_path: Path):
    body = "c = Conv (x, w) a = Add (c, x) r = Relu (a) z = Add (r, a)"
    found = behind(body, tmp_path)["w"]
    assert (found.added, found.bounded) == ("x", False)


# The fit of one layer


def problem(seed: int, *, lacking: float = 0.0) -> tuple[np.ndarray, np.ndarray, Rows, dict]:
    """Return W, a mask and rows of a layer whose sum in the student lacks what rows tell of."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((1, 400, 10)) + 1).astype(np.float32)
    y = (x + 0.2 * rng.standard_normal(x.shape)).astype(np.float32)
    matrix = rng.standard_normal((1, 6, 10)).astype(np.float32)
    mask = rng.random(matrix.shape) < 0.5
    other = rng.standard_normal((1, 400, 6)).astype(np.float32)
    lost = y @ rng.standard_normal((1, 10, 6)).astype(np.float32)
    rows = Rows(400)
    beside = (other, other - np.float32(lacking) * lost) if lacking else ()
    rows.add(x, y, 300, *beside)
    scale = rng.uniform(0.5, 2, 6).astype(np.float32) * np.where(rng.random(6) < 0.2, -1, 1)
    bias = rng.standard_normal(6).astype(np.float32)
    return matrix, mask, rows, {"scale": scale.astype(np.float32), "bias": bias}


def fit(matrix, mask, rows, after, affine) -> tuple[np.ndarray, np.ndarray]:
    """Fit to a copy of ``rows``: a fit uses them up."""
    return fitted_downstream(matrix, mask, deepcopy(rows), after, **affine)


def errors(matrix, rows, affine, weights, bias, after: Downstream) -> np.ndarray:
    """Return the mean squared error behind everything, of each output, from first principles.

    Of an output as it is fitted: times what the normalisation multiplies by in the dense model.
    """
    (x,), (y,) = rows.dense, rows.sparse
    dense, sparse = (r @ m.swapaxes(1, 2) for r, m in ((x, matrix), (y, weights)))
    unit = affine["scale"] / np.sqrt(dense.var(axis=1) + NORM.epsilon)
    wanted, made = (unit * (part - part.mean(axis=1)) for part in (dense, sparse))
    wanted, made = wanted + affine["bias"], made + bias
    if rows.dense_beside:
        wanted, made = wanted + rows.dense_beside[0], made + rows.sparse_beside[0]
    wanted, made = (np.clip(part, after.lowest, after.highest) for part in (wanted, made))
    return np.square(wanted - made).mean(axis=(0, 1))


@given(st.integers(0, 1000), st.sampled_from([(0.0, math.inf), (0.0, 1.0), (-0.5, math.inf)]))
@settings(max_examples=30, deadline=None)
def test_with_bounds_less_is_lost_behind_them(seed, bounds):
    matrix, mask, rows, affine = problem(seed)
    after = Downstream(NORM, "", *bounds)
    with_bounds = fit(matrix, mask, rows, after, affine)
    without = fit(matrix, mask, rows, Downstream(NORM), affine)
    ours, plain = (
        errors(matrix, rows, affine, *found, after).sum() for found in (with_bounds, without)
    )
    assert ours < plain
    assert not with_bounds[0][~mask].any()


def test_a_layer_makes_up_for_what_the_sum_lacks():
    matrix, mask, rows, affine = problem(0, lacking=0.3)
    found = fit(matrix, mask, rows, Downstream(NORM, "a"), affine)
    alone = Rows(400)
    alone.add(rows.dense[0], rows.sparse[0], 300)
    without = fit(matrix, mask, alone, Downstream(NORM), affine)
    ours, plain = (
        errors(matrix, rows, affine, *each, Downstream(NORM, "a")).sum()
        for each in (found, without)
    )
    assert ours < 0.7 * plain


def test_nothing_pruned_and_nothing_lost_nothing_changes():
    matrix, mask, rows, affine = problem(1)
    rows.sparse[0] = rows.dense[0]
    for after in (Downstream(NORM), Downstream(NORM, "", 0.0, 1.0)):
        weights, bias = fit(matrix, np.ones_like(mask), rows, after, affine)
        np.testing.assert_allclose(weights, matrix, atol=1e-3)
        np.testing.assert_allclose(bias, affine["bias"], atol=1e-3)


def test_a_channel_that_nothing_gets_through_does_no_harm():
    matrix, mask, rows, affine = problem(2)
    affine["scale"][3] = 0.0
    matrix[0, 4] = 0.0
    weights, bias = fit(matrix, mask, rows, Downstream(NORM, "", 0.0), affine)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(bias[3:5], affine["bias"][3:5], atol=1e-4)


def test_an_output_that_never_varies_stays_what_it_is():
    matrix, mask, rows, affine = problem(3)
    rows.dense[0][:] = 0.7  # rounding makes its mean another number
    rows.sparse[0][:] = rows.dense[0] + 1e-6 * np.sin(np.arange(400, dtype=np.float32))[:, None]
    for after in (Downstream(NORM), Downstream(NORM, "", 0.0)):
        weights, bias = fit(matrix, mask, rows, after, affine)
        np.testing.assert_allclose(bias, affine["bias"], atol=1e-2)
        assert np.abs(weights).max() < 10 * np.abs(matrix).max()


def test_least_squares_of_what_a_layer_gives_and_more():
    rng = np.random.default_rng(0)
    x, d = rng.standard_normal((1, 200, 5)), rng.standard_normal((1, 200, 3))
    matrix = rng.standard_normal((1, 3, 5))
    mask = np.ones_like(matrix, bool)
    mask[0, :, 1] = False
    rows = moments_of(x)
    rows = type(rows)(rows.own, rows.cross, rows.count, d.swapaxes(1, 2) @ x)
    wanted = (x @ matrix.swapaxes(1, 2) + d)[0]
    kept = mask[0, 0]
    best = np.linalg.lstsq(x[0][:, kept], wanted, rcond=None)[0].T
    for start in (None, rng.standard_normal(matrix.shape)):
        found = masked_least_squares(matrix, mask, rows, start=start)
        np.testing.assert_allclose(found[0][:, kept], best, atol=0.05)


def test_a_value_beside_a_layer_is_seen_at_the_same_positions():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 9, 9)).astype(np.float32)
    weight = rng.standard_normal((6, 2, 3, 3)).astype(np.float32)
    model = network(
        "net (float[3,4,9,9] x) => (float[A,B,C,D] y) "
        "{ y = Conv <group = 2, strides = [1,1]> (x, w) }",
        {"w": weight},
    )
    (given,) = outputs(model, {"x": x})
    layer = LinearLayer("x", Layout(0, 1), 2, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0))
    rows = layer.rows(x, np.random.default_rng(5))
    beside = layer.output_rows(given, np.random.default_rng(5))
    expected = rows @ layer.matrix(weight).swapaxes(1, 2)
    np.testing.assert_allclose(beside, expected, atol=1e-4)


# A whole model


def residual(seed: int, directory: Path) -> tuple[Student, CalibrationData]:
    """Return four blocks of two convolutions with a bounded activation, each added to its input."""
    shapes = {"w0": (12, 8, 3, 3), "w5": (5, 12)}
    lines = [
        "l = Constant <value_float = 0.0> () h = Constant <value_float = 1.0> ()",
        "c = Conv <pads = [1,1,1,1]> (x, w0) a0 = Relu (c)",
    ]
    for k in range(4):
        shapes |= {f"e{k}w": (24, 12, 1, 1), f"p{k}w": (12, 24, 3, 3)}
        lines += [
            f"e{k} = Conv (a{k}, e{k}w) r{k} = Clip (e{k}, l, h)",
            f"p{k} = Conv <pads = [1,1,1,1]> (r{k}, p{k}w) a{k + 1} = Add (p{k}, a{k})",
        ]
    lines.append("g = GlobalAveragePool (a4) f = Flatten (g) y = Gemm <transB = 1> (f, w5)")
    tensors = draw(seed, **shapes)
    tensors["w5"] *= 4
    text = f"net (float[N,8,6,6] x) => (float[N,5] y) {{ {' '.join(lines)} }}"
    return prepared(network(text, tensors), directory, images(96, 0, 8, 6))


def test_a_model_fitted_to_what_comes_of_layers_is_nearer_to_the_dense_one(monkeypatch, tmp_path):
    new = {"x": images(256, 1, 8, 6)}

    def error(seed: int) -> float:
        student, data = residual(seed, tmp_path)
        sizes = {name: student.dense[name].size for name in student.prunable}
        kept = {name: int(size * (0.4 if name != "w5" else 1)) for name, size in sizes.items()}
        tensors, others = reconstruct(student, kept, data, 1, Quiet())
        assert not others
        assert {name: np.count_nonzero(tensors[name]) for name in kept} == kept
        tensors |= recalibrate(student, tensors, data, 32)
        dense, made = (outputs(student.with_tensors(t), new)[0] for t in (student.dense, tensors))
        return float(divergence(student.targets[0], dense, made))

    ours = [error(seed) for seed in range(3)]
    monkeypatch.setattr(layer_fit, "find_downstream", lambda *_: {})
    assert np.mean(ours) < 0.95 * np.mean([error(seed) for seed in range(3)])


def test_sums_are_made_up_for_where_the_other_part_is_known(tmp_path: Path):
    student, _ = residual(0, tmp_path)
    found = find_downstream(student, linear_layers(student))
    assert [found[f"p{k}w"].added for k in range(4)] == ["a0", "a1", "a2", "a3"]
    assert [found[f"e{k}w"].highest for k in range(4)] == [1.0] * 4
