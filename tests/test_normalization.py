"""A BatchNormalization is inserted without a trace, measured exactly, and folded back exactly."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_networks import classifier_tensors, draw, images, outputs, working_model

from onnx_unipts.graph import normalization
from onnx_unipts.graph.model import serialize
from onnx_unipts.graph.normalization import FILTER_SCALES, Normalization
from onnx_unipts.graph.parameters import bind

CONVOLUTIONS = """
    c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2, b2)
    r2 = Relu (c2)
    p = GlobalAveragePool (r2)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, w3, b3)"""


def feeds_for(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"x": images(), **tensors}


def dense_statistics(
    model: ir.Model, tensors: Mapping[str, np.ndarray], inserted: list[Normalization]
) -> dict[str, np.ndarray]:
    """Measure in numpy what enters every inserted normalisation of the dense model."""
    if not inserted:
        return {}
    producers = {n.outputs[0].name: n.inputs[0].name for n in model.graph if n.inputs}
    plain = {
        name: np.full(norm.channels, value, np.float32)
        for norm in inserted
        for name, value in zip(
            (*norm.trained, *norm.statistics), (np.sqrt(1 + norm.epsilon), 0, 0, 1), strict=True
        )
    }
    values = outputs(
        serialize(model),
        feeds_for({**tensors, **plain}),
        [producers[norm.output] or "" for norm in inserted],
    )
    found = {}
    for norm, value in zip(inserted, values, strict=True):
        axes = tuple(axis for axis in range(value.ndim) if axis != 1)
        found[norm.mean] = value.mean(axis=axes)
        found[norm.variance] = value.var(axis=axes)
    return found


def inserted_as_identity(
    body: str, tensors: Mapping[str, np.ndarray], weights: list[str], filter_scale: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the dense model computes, and the same with normalisations inserted."""
    model = working_model(body, tensors)
    (before,) = outputs(serialize(model), feeds_for(tensors))
    inserted = normalization.insert(model, weights)
    statistics = dense_statistics(model, tensors, inserted)
    changed = normalization.identity(inserted, tensors, statistics, filter_scale)
    (after,) = outputs(serialize(bind(model, {**tensors, **changed})), feeds_for({}))
    return before, after


# Insertion


def test_every_convolution_before_another_weight_gets_a_normalisation():
    model = working_model(CONVOLUTIONS, classifier_tensors())
    inserted = normalization.insert(model, ["w1", "w2", "w3"])
    assert [(norm.weight, norm.conv_bias, norm.channels) for norm in inserted] == [
        ("w1", "b1", 8),
        ("w2", "b2", 8),
    ]
    assert normalization.find(model) == [
        Normalization(n.output, n.scale, n.bias, n.mean, n.variance, n.epsilon, 8) for n in inserted
    ]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        pytest.param(
            CONVOLUTIONS.replace("r1 = Relu (c1)", "r1 = BatchNormalization (c1, b1, b1, b1, b1)"),
            ["w1"],
            id="one that has its own",
        ),
        pytest.param(CONVOLUTIONS, ["w3"], id="one that is not pruned"),
        pytest.param(
            CONVOLUTIONS.replace(
                "r2 = Relu (c2)",
                "r3 = Relu (c2) c4 = Conv <pads = [1,1,1,1]> (r3, w2, b2) r2 = Relu (c4)",
            ),
            ["w2"],
            id="one that shares its filter",
        ),
        pytest.param(
            "c1 = Conv <pads = [1,1,1,1]> (x, w1, b1) r1 = Relu (c1) p = GlobalAveragePool (r1) "
            "y = Flatten (p)",
            ["w1"],
            id="the last layer with weights",
        ),
    ],
)
def test_no_normalisation_is_inserted_behind(body: str, weights: list[str]):
    model = working_model(body, classifier_tensors())
    before = serialize(model)
    assert normalization.insert(model, weights) == []
    assert serialize(model) == before


def test_names_that_are_taken_are_left_alone():
    body = CONVOLUTIONS.replace("r1", '"c1/scale"').replace('"', "")
    model = working_model(body.replace("c1/scale", "c1_scale"), classifier_tensors())
    model.graph.node(1).outputs[0].name = "c1/scale"
    (first, _) = normalization.insert(model, ["w1", "w2"])
    assert first.scale == "c1/scale_1"
    names = [v.name for v in model.graph.inputs] + [v.name for n in model.graph for v in n.outputs]
    assert len(names) == len(set(names))


def test_a_convolution_that_is_an_output_of_the_model_keeps_its_values():
    tensors = classifier_tensors()
    both = "float[N,3,8,8] x => float[N,4] y, float[N,8,8,8] c1"
    model = working_model(CONVOLUTIONS, tensors, both)
    before = outputs(serialize(model), feeds_for(tensors))
    inserted = normalization.insert(model, ["w1", "w2"])
    statistics = dense_statistics(model, tensors, inserted)
    changed = normalization.identity(inserted, tensors, statistics, "he")
    assert [value.name for value in model.graph.outputs] == ["y", "c1"]
    after = outputs(serialize(bind(model, {**tensors, **changed})), feeds_for({}))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("filter_scale", FILTER_SCALES)
def test_what_is_inserted_leaves_the_dense_outputs_unchanged(filter_scale: str):
    before, after = inserted_as_identity(
        CONVOLUTIONS, classifier_tensors(), ["w1", "w2", "w3"], filter_scale
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("filter_scale", FILTER_SCALES)
@pytest.mark.parametrize("left", [0.0, 1e-12])
def test_dead_filters_leave_the_dense_outputs_unchanged(filter_scale: str, left: float):
    tensors = classifier_tensors()
    tensors["w1"][2] *= left
    tensors["w2"][:5] *= left
    before, after = inserted_as_identity(CONVOLUTIONS, tensors, ["w1", "w2"], filter_scale)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(CONVOLUTIONS.replace(", b1)", ")"), id="without a bias"),
        pytest.param(CONVOLUTIONS.replace("(r1, w2, b2)", "(r1, w2, b1)"), id="with one shared"),
        pytest.param(
            CONVOLUTIONS.replace(
                "r2 = Relu (c2)", "r3 = Relu (c2) s = ReduceSum (b1) r2 = Add (r3, s)"
            ),
            id="with one that is used elsewhere, too",
        ),
    ],
)
def test_convolutions_keep_what_they_compute(body: str):
    before, after = inserted_as_identity(body, classifier_tensors(), ["w1", "w2"], "he")
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_grouped_convolutions_and_those_of_one_dimension_keep_what_they_compute():
    body = """
        shape = Constant <value_ints = [0, 3, 64]> ()
        line = Reshape (x, shape)
        c1 = Conv <pads = [1,1], group = 3> (line, w1, b1)
        r1 = Relu (c1)
        c2 = Conv <group = 2, dilations = [2]> (r1, w2)
        r2 = Relu (c2)
        p = GlobalAveragePool (r2)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, w3, b3)"""
    tensors = draw(1, w1=(6, 1, 3), b1=(6,), w2=(8, 3, 3), w3=(4, 8), b3=(4,))
    before, after = inserted_as_identity(body, tensors, ["w1", "w2"], "he")
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


# Scales of the filters


def test_unit_variance_makes_it_so():
    filters, spread = draw(0, w=(8, 3, 3, 3))["w"], np.linspace(0.1, 9, 8)
    factor = FILTER_SCALES["unit-variance"](filters, spread)
    np.testing.assert_allclose(factor * spread, 1)


def test_he_gives_filters_the_spread_of_an_initialisation():
    filters = draw(0, w=(8, 3, 3, 3))["w"] * np.linspace(0.01, 5, 8)[:, None, None, None]
    filters[3] = 0
    factor = FILTER_SCALES["he"](filters, np.ones(8))
    rms = np.sqrt(np.square(filters * factor[:, None, None, None]).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(np.delete(rms, 3), np.sqrt(2 / 27), rtol=1e-5)
    assert factor[3] == 1


# Statistics

NORMALIZED = CONVOLUTIONS.replace(
    "r1 = Relu (c1)", "n1 = BatchNormalization (c1, s, o, m, v) r1 = Relu (n1)"
)


def normalised_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return classifier_tensors() | {
        "s": rng.uniform(0.5, 2, 8).astype(np.float32),
        "o": rng.standard_normal(8).astype(np.float32),
        "m": rng.standard_normal(8).astype(np.float32),
        "v": rng.uniform(0.5, 2, 8).astype(np.float32),
    }


@pytest.mark.parametrize("filter_scale", ["none", "unit-variance", "he"])
def test_filters_before_a_normalisation_of_the_model_take_any_scale(filter_scale: str):
    tensors = normalised_tensors()
    model = working_model(NORMALIZED, tensors)
    norms = normalization.find(model)
    rescaled = normalization.rescale(model, norms, ["w1", "w2"], tensors, filter_scale)
    assert rescaled.keys() == {"w1", "b1", "m", "v"}
    ours, theirs = (
        outputs(serialize(model), feeds_for(t))[0] for t in (tensors | rescaled, tensors)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    changed = not np.allclose(rescaled["w1"], tensors["w1"])
    assert changed == (filter_scale != "none")


def test_what_weight_decay_has_left_of_a_filter_is_not_scaled_up():
    tensors = normalised_tensors()
    tensors["w1"][2] *= 1e-40
    tensors["v"][2] = 0
    model = working_model(NORMALIZED, tensors)
    norms = normalization.find(model)
    rescaled = normalization.rescale(model, norms, ["w1", "w2"], tensors, "he")
    assert all(np.isfinite(tensor).all() for tensor in rescaled.values())
    np.testing.assert_array_equal(rescaled["w1"][2], tensors["w1"][2])


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        (NORMALIZED, ["w2"]),
        (NORMALIZED.replace("r2 = Relu (c2)", "r2 = Add (c2, c1)"), ["w1", "w2"]),
        (NORMALIZED.replace("m, v)", "v, v)"), ["w1", "w2"]),
    ],
    ids=["weight that is not pruned", "convolution used elsewhere", "statistics shared"],
)
def test_filters_whose_scale_nothing_makes_up_for_keep_it(body: str, weights: list[str]):
    tensors = normalised_tensors()
    if "m, v)" not in body:
        del tensors["m"]
    model = working_model(body, tensors)
    norms = normalization.find(model)
    assert normalization.rescale(model, norms, weights, tensors, "he") == {}


def test_observed_statistics_are_those_of_what_enters():
    tensors = normalised_tensors()
    model = working_model(NORMALIZED, tensors)
    expected, entering = outputs(serialize(model), feeds_for(tensors), ["y", "c1"])
    observing = normalization.with_observed_statistics(model, normalization.find(model))
    (norm,) = normalization.find(model)
    assert [value.name for value in observing.graph.outputs] == ["y", *norm.observed]
    y, mean, variance = outputs(serialize(observing), feeds_for(tensors))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(mean, entering.mean(axis=(0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(variance, entering.var(axis=(0, 2, 3)), rtol=1e-4)


def test_what_measures_a_value_stands_before_what_uses_it():
    model = working_model(NORMALIZED, normalised_tensors())
    (norm,) = normalization.find(model)
    observing = normalization.with_observed_statistics(model, [norm])
    made = [output.name for node in observing.graph for output in node.outputs]
    assert made.index(norm.observed[0]) < made.index(norm.output)


def test_batch_statistics_take_the_place_of_the_running_ones():
    tensors = normalised_tensors()
    model = working_model(NORMALIZED, tensors)
    before = serialize(model)
    (entering,) = outputs(before, feeds_for(tensors), ["c1"])
    own = {"m": entering.mean(axis=(0, 2, 3)), "v": entering.var(axis=(0, 2, 3))}
    (expected,) = outputs(before, feeds_for({**tensors, **own}))
    changed = normalization.with_batch_statistics(model, normalization.find(model))
    y, mean, variance = outputs(serialize(changed), feeds_for(tensors))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean, own["m"], atol=1e-5)
    np.testing.assert_allclose(variance, own["v"], rtol=1e-4)
    assert serialize(model) == before


def test_a_normalised_value_that_is_an_output_of_the_model_stays_one():
    tensors = normalised_tensors()
    model = working_model(
        NORMALIZED, tensors, "float[N,3,8,8] x => float[N,4] y, float[N,8,8,8] n1"
    )
    changed = normalization.with_batch_statistics(model, normalization.find(model))
    assert [value.name for value in changed.graph.outputs][:2] == ["y", "n1"]
    _, n1, *_ = outputs(serialize(changed), feeds_for(tensors))
    np.testing.assert_allclose(n1.mean(axis=(0, 2, 3)), tensors["o"], atol=1e-4)


@pytest.mark.parametrize("make", ["with_observed_statistics", "with_batch_statistics"])
def test_two_normalisations_of_the_same_tensors_can_be_measured(make: str):
    body = NORMALIZED.replace(
        "r2 = Relu (c2)", "n2 = BatchNormalization (c2, s, o, m, v) r2 = Relu (n2)"
    )
    tensors = normalised_tensors()
    model = working_model(body, tensors)
    changed = getattr(normalization, make)(model, normalization.find(model))
    assert np.isfinite(outputs(serialize(changed), feeds_for(tensors))[0]).all()


def test_normalisations_of_constant_tensors_are_not_the_models_own():
    model = bind(working_model(NORMALIZED, normalised_tensors()), {"m": np.zeros(8, np.float32)})
    assert normalization.find(model) == []


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 1000))
def test_pooled_statistics_of_batches_are_those_of_all(sizes: list[int], seed: int):
    values = np.random.default_rng(seed).standard_normal((sum(sizes), 3)) * 3 + 1
    norm = Normalization("y", "s", "o", "m", "v", 1e-5, 3)
    observed = [
        dict(zip(norm.observed, (batch.mean(axis=0), batch.var(axis=0)), strict=True))
        for batch in np.split(values, np.cumsum(sizes)[:-1])
    ]
    pooled = normalization.statistics_mean(observed, sizes, [norm])
    np.testing.assert_allclose(pooled["m"], values.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pooled["v"], values.var(axis=0), rtol=1e-4, atol=1e-5)


# Folding

INSERTED = Normalization("y", "s", "o", "m", "v", 1e-5, 4, weight="w", conv_bias="b")


def folding_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = {name: rng.standard_normal(4).astype(np.float32) for name in "sombv"}
    tensors["v"] = np.abs(tensors["v"])
    tensors["w"] = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    tensors["w"][rng.random(tensors["w"].shape) < 0.5] = 0
    return tensors


@given(st.integers(0, 10_000), st.booleans())
def test_a_folded_convolution_computes_what_both_did(seed: int, with_bias: bool):
    tensors = folding_tensors(seed)
    norm = Normalization(
        "y", "s", "o", "m", "v", 1e-5, 4, weight="w", conv_bias="b" if with_bias else None
    )
    patch = np.random.default_rng(seed).standard_normal((3, 3, 3))
    entering = np.einsum("oikl,ikl->o", tensors["w"].astype(np.float64), patch)
    entering += tensors["b"] if with_bias else 0
    scale = tensors["s"] / np.sqrt(tensors["v"].astype(np.float64) + norm.epsilon)
    expected = (entering - tensors["m"]) * scale + tensors["o"]
    filters, bias = normalization.fold(norm, tensors)
    assert filters.dtype == bias.dtype == np.float32
    folded = np.einsum("oikl,ikl->o", filters.astype(np.float64), patch) + bias
    np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, -1.0, 1e-42, 1e-45, 0.0])
def test_zeros_stay_and_nothing_else_becomes_zero(scale: float):
    tensors = folding_tensors()
    tensors["s"][:] = scale
    filters, _ = normalization.fold(INSERTED, tensors)
    np.testing.assert_array_equal(filters == 0, tensors["w"] == 0)


def test_a_filter_pruned_to_nothing_becomes_its_bias():
    tensors = folding_tensors()
    tensors["w"][1], tensors["b"][1], tensors["m"][1], tensors["v"][1] = 0, 0.5, 0.5, 0
    filters, bias = normalization.fold(INSERTED, tensors)
    assert not filters[1].any()
    assert bias[1] == pytest.approx(tensors["o"][1])
