"""A dense model adapts to data to which its answers differ, and is left alone where they do not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from compression import UNTRAINED, compress, job_of
from small_networks import (
    CLASSIFIER,
    balanced,
    classifier,
    classifier_tensors,
    draw,
    images,
    network,
    outputs,
    prepared,
)

from onnx_unipts.pipeline import _adapted
from onnx_unipts.progress import Lines, Quiet
from onnx_unipts.recipe import Training
from onnx_unipts.student import Student
from onnx_unipts.targets import log_softmax
from onnx_unipts.training.adaptation import adapt_normalizations, commonest_share

pytestmark = pytest.mark.usefixtures("quick_simplification")


def scores_at_positions() -> onnx.ModelProto:
    text = """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        c = Conv (x, w) y = Softmax <axis = 1> (c)
    }"""
    return network(text, draw(0, w=(4, 3, 1, 1)))


def values() -> onnx.ModelProto:
    tensors = classifier_tensors()
    tensors |= {"w3": tensors["w3"][:1], "b3": tensors["b3"][:1]}
    return network(CLASSIFIER.replace("float[N,4] y", "float[N,1] y"), tensors)


@pytest.mark.parametrize(
    ("make", "samples", "least", "most"),
    [
        (classifier, 64, 1, 1),
        (balanced, 64, 0.25, 0.5),
        (scores_at_positions, 64, 0.25, 0.6),
        (values, 64, 0, 0),
        (balanced, 2, 0.5, 1),
        (balanced, 1, 1, 1),
    ],
    ids=["one class", "all classes", "at every position", "values", "two samples", "one sample"],
)
def test_the_commonest_answer_has_its_share(
    make: Callable[[], onnx.ModelProto], samples: int, least: float, most: float, tmp_path: Path
):
    assert least <= commonest_share(*prepared(make(), tmp_path, images(samples))) <= most


@pytest.mark.parametrize(
    ("make", "adapts"),
    [(balanced, True), (classifier, False)],
    ids=["all classes", "one class"],
)
def test_only_a_model_of_different_answers_adapts(
    make: Callable[[], onnx.ModelProto], adapts: bool, tmp_path: Path
):
    student, _ = prepared(make(), tmp_path, images(64))
    job = job_of(tmp_path, reconstruction=False, adaptation=3, batch_size=16)
    tensors = _adapted(job, student)
    assert tensors.keys() == student.dense.keys()
    changed = {n for n, tensor in tensors.items() if (tensor != student.dense[n]).any()}
    settled = {n for norm in student.normalizations for n in (*norm.trained, *norm.statistics)}
    assert changed == (settled if adapts else set())


def entropy(student: Student, tensors: dict[str, np.ndarray], x: np.ndarray) -> float:
    logs = log_softmax(outputs(student.with_tensors(tensors), {"x": x})[0].astype(np.float64))
    return float(-(np.exp(logs) * logs).sum(axis=1).mean())


def test_adaptation_makes_a_model_surer_on_any_number_of_replicas(tmp_path: Path):
    x = images(64)
    student, data = prepared(balanced(), tmp_path, x)
    settings = Training(adaptation=30, adaptation_rate=0.01, batch_size=64, augment=False)
    before, gains = entropy(student, student.dense, x), []
    for replicas in (1, 2):
        tensors = adapt_normalizations(student, data, settings, 0, replicas, Quiet())
        assert tensors is not None
        gains.append(before - entropy(student, tensors, x))
    assert gains[0] > 0.02
    assert gains[1] == pytest.approx(gains[0], rel=0.2)


def test_that_the_dense_model_teaches_as_it_is_is_told(tmp_path: Path):
    told = io.StringIO()
    settings = UNTRAINED | {"training.epochs": 1, "training.adaptation": 3}
    compress(classifier(), tmp_path, settings, progress=Lines(told))
    assert "teaches as it is: its answers are too much alike to adapt by" in told.getvalue()
    assert "adaptation" not in told.getvalue()


def test_few_other_answers_make_little_difference(tmp_path: Path):
    student, data = prepared(balanced(), tmp_path, images(64))
    student.dense["b3"] = student.dense["b3"] + np.float32([2.5, 0, 0, 0])
    assert 0.8 < commonest_share(student, data) < 1
