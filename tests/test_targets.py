"""What is compared is chosen from an output's shape and producer; divergence is what it says."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import from_proto
from onnx_unipts.targets import Target, choose_targets, divergence, expose, log_softmax, softmax


def model(signature: str, body: str) -> ir.Model:
    header = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>\n'
    return from_proto(parser.parse_model(f"{header} net {signature} {{ {body} }}"))


@pytest.mark.parametrize(
    ("signature", "body", "expected"),
    [
        ("(float[N,9] x) => (float[N,9] y)", "y = Relu (x)", Target("y", "y", "classes")),
        ("(float[N,1] x) => (float[N,1] y)", "y = Relu (x)", Target("y", "y", "values")),
        ("(float[N,3,8,8] x) => (float[N,3,8,8] y)", "y = Relu (x)", Target("y", "y", "values")),
        (
            "(float[N,9] x) => (float[N,9] y)",
            "z = Relu (x) y = Softmax <axis = 1> (z)",
            Target("y", "z", "classes", 1, closing="Softmax"),
        ),
        (
            "(float[N,9] x) => (float[N,9] y)",
            "z = Relu (x) y = LogSoftmax (z)",
            Target("y", "z", "classes", closing="LogSoftmax"),
        ),
        (
            "(float[N,9,4,4] x) => (float[N,9,4,4] y)",
            "z = Relu (x) y = Softmax <axis = 1> (z)",
            Target("y", "z", "classes", 1, closing="Softmax"),
        ),
        (
            "(float[N,9] x) => (float[N,9] y)",
            "z = Relu (x) y = Sigmoid (z)",
            Target("y", "z", "probability", closing="Sigmoid"),
        ),
        (
            "(float[N,9] x) => (float[N,9] y)",
            "z = Relu (x) p = Softmax (z) q = Identity (p) y = Flatten (q)",
            Target("y", "z", "classes", closing="Softmax"),
        ),
        (
            "(float[N,9,1,1] x) => (float[N,9] y)",
            "z = Relu (x) p = Softmax <axis = 1> (z) y = Flatten (p)",
            Target("y", "z", "classes", 1, closing="Softmax", shape=(9, 1, 1)),
        ),
        (
            "(float[N,9] x) => (float[N,9,1] y)",
            "z = Relu (x) p = Softmax (z) axes = Constant <value_ints = [2]> () "
            "y = Unsqueeze (p, axes)",
            Target("y", "z", "classes", closing="Softmax", shape=(9,)),
        ),
        (
            "(float[N,9,H,W] x) => (float[N,K] y)",
            "z = Relu (x) p = Softmax <axis = 1> (z) y = Flatten (p)",
            Target("y", "y", "classes"),
        ),
    ],
)
def test_a_target_is_chosen_from_shape_and_producer(signature: str, body: str, expected: Target):
    assert choose_targets(model(signature, body)) == [expected]


@pytest.mark.parametrize(
    ("signature", "body", "kind"),
    [
        ("(float[N,9] x) => (float[N,M] y)", "y = ReduceMax <axes = [1]> (x)", "values"),
        ("(float[N,9] x) => (float[N,M] y)", "y = Relu (x)", "classes"),
        ("(float[N,M] x) => (float[N,M] y)", "y = Relu (x)", "classes"),
        ("(float[N,10] x) => (float[10,N] y)", "y = Transpose (x)", "values"),
        ("(float[K,10] x) => (float[10,K] y)", "y = Transpose (x)", "values"),
        ("(float[10,K] x) => (float[10,K] y)", "y = Relu (x)", "classes"),
        ("(float[N,9] x) => (float[1,9] y)", "y = ReduceMax <axes = [0]> (x)", "classes"),
    ],
)
def test_rows_of_several_numbers_for_each_sample_are_class_scores(
    signature: str, body: str, kind: str
):
    assert choose_targets(model(signature, body)) == [Target("y", "y", kind)]


@pytest.mark.parametrize(
    ("signature", "body", "expected"),
    [
        (
            "(float[N,9] x) => (int64[N] y)",
            "z = Relu (x) y = ArgMax <axis = 1, keepdims = 0> (z)",
            Target("y", "z", "classes", 1, inner=True),
        ),
        (
            "(float[N,9] x) => (int32[N] y)",
            "z = Relu (x) a = ArgMax <axis = 1, keepdims = 0> (z) y = Cast <to = 6> (a)",
            Target("y", "z", "classes", 1, inner=True),
        ),
        (
            "(float[N,9,4,4] x) => (uint8[N,4,4] y)",
            "z = Relu (x) a = ArgMax <axis = 1, keepdims = 0> (z) y = Cast <to = 2> (a)",
            Target("y", "z", "classes", 1, inner=True),
        ),
        (
            "(float[N,9,4] x) => (float[N,3,4] y)",
            "k = Constant <value_ints = [3]> () z = Relu (x) y, i = TopK <axis = 1> (z, k)",
            Target("y", "z", "classes", 1, inner=True),
        ),
        (
            "(float[N,9] x) => (bool[N,9] y)",
            "h = Constant <value_float = 0.5> () z = Relu (x) y = Greater (z, h)",
            Target("y", "z", "values", inner=True),
        ),
        (
            "(float[N,9] x) => (int64[N] y)",
            "z = Relu (x) "
            "y, s = ai.onnx.ml.LinearClassifier <coefficients = [1.0], classlabels_ints = [1]> (z)",
            Target("y", "z", "values", inner=True),
        ),
        (
            "(float[N,3] x) => (seq(map(int64, float)) y)",
            "z = Relu (x) y = ai.onnx.ml.ZipMap <classlabels_int64s = [0, 1, 2]> (z)",
            Target("y", "z", "classes", inner=True),
        ),
    ],
    ids=["ArgMax", "Cast", "map", "TopK", "Greater", "LinearClassifier", "ZipMap"],
)
def test_what_an_output_is_made_of_holds_class_scores_where_an_operator_takes_such(
    signature: str, body: str, expected: Target
):
    assert choose_targets(model(signature, body)) == [expected]


def test_every_float_output_is_a_target_and_no_other_is():
    both = model(
        "(float[N,9] x) => (int64[N,1] label, float[N,9] y, float[N,9] z)",
        "z = Relu (x) y = Softmax (z) label = ArgMax <axis = 1> (z)",
    )
    assert choose_targets(both) == [
        Target("y", "z", "classes", closing="Softmax"),
        Target("z", "z", "classes"),
    ]


def test_a_scalar_is_no_target():
    both = model(
        "(float[N,9] x) => (float[N,9] y, float s)",
        "y = Relu (x) s = ReduceMean <keepdims = 0> (y)",
    )
    assert choose_targets(both) == [Target("y", "y", "classes")]


def test_a_model_without_float_outputs_is_refused_by_name():
    with pytest.raises(UnsupportedModelError, match="label"):
        choose_targets(
            model("(float[N,9] x) => (int64[N,1] label)", "label = ArgMax <axis = 1> (x)")
        )


def test_a_stored_tensor_is_no_target():
    both = model("(float[N,9] x) => (float[N,9] y, float[9,9] w)", "y = MatMul (x, w)")
    stored = next(value for value in both.graph.outputs if value.name == "w")
    stored.const_value = ir.tensor(np.eye(9, dtype=np.float32), name="w")
    both.graph.register_initializer(stored)
    assert choose_targets(both) == [Target("y", "y", "classes")]


def test_exposed_are_the_distilled_values_each_once():
    both = model("(float[N,9] x) => (float[N,9] y, float[N,9] z)", "z = Relu (x) y = Softmax (z)")
    expose(both, choose_targets(both))
    assert [value.name for value in both.graph.outputs] == ["z"]


# Divergence

CLASSES = Target("y", "y", "classes")
PROBABILITY = Target("y", "y", "probability")
VALUES = Target("y", "y", "values")
KINDS = pytest.mark.parametrize("target", [CLASSES, PROBABILITY, VALUES], ids=lambda t: t.kind)


def scores(seed: int, spread: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((6, 5)) * spread).astype(np.float32)


@KINDS
@given(seed=st.integers(0, 100), spread=st.sampled_from([0.1, 3.0, 300.0]))
def test_a_model_does_not_diverge_from_itself(target: Target, seed: int, spread: float):
    assert divergence(target, scores(seed, spread), scores(seed, spread)) == pytest.approx(0)


@KINDS
@given(seed=st.integers(0, 100), spread=st.sampled_from([0.1, 3.0, 300.0]))
def test_divergence_is_finite_and_positive(target: Target, seed: int, spread: float):
    value = divergence(target, scores(seed, spread), scores(seed + 1000, spread))
    assert 0 < value < np.inf


@KINDS
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_broken_outputs_are_infinitely_far(target: Target, broken: float):
    sparse = scores(1)
    sparse[2, 3] = broken
    assert divergence(target, scores(0), sparse) == np.inf


@KINDS
def test_from_values_that_are_not_numbers_all_is_infinitely_far(target: Target):
    dense = scores(0)
    dense[2, 3] = np.nan
    assert divergence(target, dense, scores(1)) == np.inf


def test_a_class_that_is_ruled_out_does_not_count():
    dense, sparse = scores(0), scores(1)
    dense[:, 3] = sparse[:, 3] = -np.inf
    others = np.delete(np.arange(dense.shape[1]), 3)
    expected = divergence(CLASSES, dense[:, others], sparse[:, others])
    assert divergence(CLASSES, dense, sparse) == pytest.approx(expected)
    sparse[:, others[0]] = -np.inf  # and one that is not
    assert divergence(CLASSES, dense, sparse) == np.inf


def test_classes_are_compared_by_the_divergence_of_their_distributions():
    p, q = softmax(scores(0).astype(np.float64)), softmax(scores(1).astype(np.float64))
    expected = (p * np.log(p / q)).sum(axis=1).mean()
    assert divergence(CLASSES, scores(0), scores(1)) == pytest.approx(expected)


def test_class_scores_may_be_shifted():
    assert divergence(CLASSES, scores(0), scores(0) + 5) == pytest.approx(0, abs=1e-9)


def test_probabilities_are_compared_one_by_one():
    p, q = (1 / (1 + np.exp(-scores(seed).astype(np.float64))) for seed in (0, 1))
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert divergence(PROBABILITY, scores(0), scores(1)) == pytest.approx(expected)


def test_values_are_compared_relative_to_their_variance():
    expected = np.square(scores(0) - scores(1)).mean() / scores(0).var()
    assert divergence(VALUES, scores(0), scores(1)) == pytest.approx(expected, rel=1e-5)
    scaled = divergence(VALUES, 1000 * scores(0), 1000 * scores(1))
    assert scaled == pytest.approx(expected, rel=1e-5)


def test_class_maps_are_compared_along_their_axis():
    dense, sparse = (np.random.default_rng(i).standard_normal((2, 5, 3, 3)) for i in (0, 1))
    rows = [np.moveaxis(x, 1, -1).reshape(-1, 5) for x in (dense, sparse)]
    maps = divergence(Target("y", "y", "classes", 1), dense, sparse)
    assert maps == pytest.approx(divergence(CLASSES, *rows))


@given(st.integers(0, 100))
def test_softmax_sums_to_one_for_any_scores(seed: int):
    huge = scores(seed, 1e4)
    np.testing.assert_allclose(softmax(huge).sum(axis=-1), 1, rtol=1e-5)
    assert np.isfinite(log_softmax(huge)).all()


def test_a_weight_that_is_an_input_is_no_batch():
    body, signature = "t = Transpose (h) y = MatMul (w, t)", "(float[N,32] x) => (float[4,N] y)"
    stored = model(signature, f"h = Relu (x) w = Constant <value_floats = [0.0]> () {body}")
    given = model("(float[N,32] x, float[4,32] w) => (float[4,N] y)", f"h = Relu (x) {body}")
    given.graph.inputs[1].const_value = ir.tensor(np.zeros((4, 32), np.float32))
    assert [t.kind for t in choose_targets(stored)] == ["values"]
    assert [t.kind for t in choose_targets(given)] == ["values"]


def test_what_leaves_the_shape_as_it_is_hides_no_sigmoid():
    found = choose_targets(
        model(
            "(float[N,1,H,W] x) => (float[A,1,B,C] y)",
            "z = Relu (x) p = Sigmoid (z) y = Identity (p)",
        )
    )
    assert found == [Target("y", "z", "probability", closing="Sigmoid")]
