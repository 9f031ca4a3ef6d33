"""A model is measured on every sample, whatever stands at its end."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_networks import (
    CLASSIFIER,
    balanced,
    classifier,
    classifier_tensors,
    images,
    network,
    outputs,
    saved,
)

from onnx_unipts import evaluate
from onnx_unipts.calibration import CalibrationData, input_signature, load_calibration_data
from onnx_unipts.evaluation import (
    Accuracy,
    compare,
    measure_accuracy,
    outputs_of,
    wilson_interval,
)
from onnx_unipts.fitness import FITNESS, CandidateEvaluator
from onnx_unipts.graph.model import load_model
from onnx_unipts.targets import Target, choose_targets
from onnx_unipts.training.ort import inference_session

# What may close a classifier; all but Sigmoid leave the same classes to tell apart.
ENDS = {
    "scores": "y = Identity (z)",
    "softmax": "y = Softmax <axis = 1> (z)",
    "log-softmax": "y = LogSoftmax <axis = 1> (z)",
    "softmax of the last axis, unsqueezed": (
        "q = Softmax <axis = -1> (z) axes = Constant <value_ints = [2]> () y = Unsqueeze (q, axes)"
    ),
}


def with_end(end: str, seed: int = 0) -> ir.Model:
    text = CLASSIFIER.replace("y = Gemm", "z = Gemm").replace("(f, w3, b3)", f"(f, w3, b3) {end}")
    text = text.replace("float[N,4] y", "float[N,4,1] y") if "Unsqueeze" in end else text
    return ir.from_proto(network(text, classifier_tensors(seed)))


def data_for(model: ir.Model, **arrays: np.ndarray) -> CalibrationData:
    return load_calibration_data(arrays, input_signature(model))


# Intervals


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_the_interval_contains_the_share(correct: int, total: int):
    correct = min(correct, total)
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1


@given(st.integers(0, 50), st.integers(50, 60))
def test_the_interval_of_the_errors_is_the_mirrored_one(correct: int, total: int):
    low, high = wilson_interval(correct, total)
    mirrored = wilson_interval(total - correct, total)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_the_interval_has_the_published_value():
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_accuracy_is_the_share_of_right_answers():
    accuracy = Accuracy(200, 150)
    assert accuracy.value == 0.75
    assert accuracy.interval == wilson_interval(150, 200)


# Running


@pytest.mark.parametrize("count", [1, 63, 64, 65, 150])
def test_every_sample_is_run_once_in_order(tmp_path: Path, count: int):
    path = saved(classifier(), tmp_path)
    model = load_model(path)
    x = images(count)
    found = outputs_of(inference_session(str(path)), choose_targets(model), data_for(model, x=x))
    (expected,) = outputs(classifier(), {"x": x})
    np.testing.assert_allclose(found["y"], expected, rtol=1e-4, atol=1e-5)


def test_a_model_of_a_fixed_batch_is_run_on_every_sample(tmp_path: Path):
    """Many exports have a batch of one; the data has as many samples as it likes."""
    text = CLASSIFIER.replace("float[N,", "float[1,")
    path = saved(network(text, classifier_tensors()), tmp_path)
    model = load_model(path)
    x = images(5)
    found = outputs_of(inference_session(str(path)), choose_targets(model), data_for(model, x=x))
    (expected,) = outputs(classifier(), {"x": x})
    np.testing.assert_allclose(found["y"], expected, rtol=1e-4, atol=1e-5)


def test_several_inputs_are_fed_together(tmp_path: Path):
    text = CLASSIFIER.replace("float[N,3,8,8] x", "float[N,3,8,8] x, float[N,8] u").replace(
        "y = Gemm <transB = 1> (f,", "g = Add (f, u) y = Gemm <transB = 1> (g,"
    )
    path = saved(network(text, classifier_tensors()), tmp_path)
    model = load_model(path)
    x, u = images(70), np.random.default_rng(0).standard_normal((70, 8)).astype(np.float32)
    data = data_for(model, x=x, u=u)
    found = outputs_of(inference_session(str(path)), choose_targets(model), data)
    (expected,) = outputs(path, {"x": x, "u": u})
    np.testing.assert_allclose(found["y"], expected, rtol=1e-4, atol=1e-5)


# Comparing


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_classifier_is_compared_by_its_scores_whatever_closes_it(end: str):
    feeds = {"x": images(100)}
    plain = [{"y": outputs(ir.to_proto(with_end(ENDS["scores"], s)), feeds)[0]} for s in (0, 1)]
    expected = compare(choose_targets(with_end(ENDS["scores"])), *plain)
    closed = [{"y": outputs(ir.to_proto(with_end(end, s)), feeds)[0]} for s in (0, 1)]
    found = compare(choose_targets(with_end(end)), *closed)
    assert found.samples == 100
    assert found.divergence == pytest.approx(expected.divergence, rel=1e-3)
    assert found.agreement == expected.agreement
    assert expected.divergence > 0.1
    assert expected.agreement is not None
    assert expected.agreement < 1


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_accuracy_is_measured_whatever_closes_the_model(end: str):
    feeds = {"x": images(100)}
    (plain,) = outputs(ir.to_proto(with_end(ENDS["scores"])), feeds)
    labels = plain.argmax(axis=1).astype(np.int64)
    labels[:25] = (labels[:25] + 1) % 4
    model = with_end(end)
    (y,) = outputs(ir.to_proto(model), feeds)
    assert measure_accuracy(choose_targets(model), {"y": y}, labels) == Accuracy(100, 75)


def test_a_model_agrees_with_itself():
    (y,) = outputs(classifier(), {"x": images(20)})
    found = compare(choose_targets(ir.from_proto(classifier())), {"y": y}, {"y": y})
    assert found.divergence == pytest.approx(0)
    assert found.agreement == 1


def test_independent_probabilities_are_compared_without_agreement():
    model = with_end("y = Sigmoid (z)")
    found = compare(
        choose_targets(model),
        {"y": np.array([[0.5, 0.5], [1.0, 0.0]])},
        {"y": np.array([[0.5, 0.5], [0.9, 0.1]])},
    )
    assert found.agreement is None
    assert found.divergence == pytest.approx(-np.log(0.9) / 2, rel=1e-3)


def test_there_is_no_accuracy_without_labels_or_without_classes():
    scores = {"y": np.eye(4)}
    targets = choose_targets(with_end(ENDS["scores"]))
    assert measure_accuracy(targets, scores, None) is None
    assert (
        measure_accuracy(choose_targets(with_end("y = Sigmoid (z)")), scores, np.arange(4)) is None
    )


def test_the_accuracy_of_a_candidate_is_by_the_labels_of_each_batch():
    model, batches = balanced(), [{"x": images(16, seed)} for seed in (0, 1)]
    scores = [outputs(model, batch)[0] for batch in batches]
    labels = [each.argmax(axis=1) for each in scores]
    assert not np.array_equal(*labels)
    evaluator = CandidateEvaluator(
        model.SerializeToString(),
        {},
        [Target("y", "y", "classes")],
        batches,
        [{"y": each} for each in scores],
        FITNESS["accuracy"],
        labels,
    )
    assert evaluator.score([{}]) == [1.0]


def test_a_model_of_old_that_lists_its_weights_as_inputs_is_a_version_of_the_new_one(
    tmp_path: Path,
):
    old = classifier()
    old.ir_version = 3
    for tensor in old.graph.initializer:
        listed = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        old.graph.input.append(listed)
    dense, sparse = saved(old, tmp_path, "old.onnx"), saved(classifier(), tmp_path, "new.onnx")
    fidelity = evaluate(dense, sparse, data={"x": images(4)}, jobs=1)["fidelity"]["sparse"]
    assert fidelity["divergence"] == 0
