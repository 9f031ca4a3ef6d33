"""What is written is verified: a file that differs from what was trained is not left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compression import PRUNABLE, UNTRAINED, compress, floor_of, saved_externally
from small_networks import (
    CLASSIFIER,
    classifier,
    classifier_tensors,
    images,
    network,
    outputs,
    saved,
)

from onnx_unipts import api, finish
from onnx_unipts.graph.errors import OnnxUniptsError, TargetMissedError, UsageError

pytestmark = pytest.mark.usefixtures("quick_simplification")


@pytest.mark.parametrize("end", ["scores", "softmax"])
def test_a_file_that_does_not_compute_what_was_trained_is_not_left(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def spoil(student: Any, model: Any, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return write_back(student, model, tensors | {"b3": tensors["b3"] + [3, 0, 0, 0]})

    write_back = finish.write_back
    monkeypatch.setattr(finish, "write_back", spoil)
    text = CLASSIFIER
    if end == "softmax":
        text = text.replace("y = Gemm", "z = Gemm").replace(
            "w3, b3)", "w3, b3) y = Softmax <axis = 1> (z)"
        )
    path = saved_externally(network(text, classifier_tensors()), tmp_path)
    (tmp_path / "m.sparse.onnx").write_bytes(b"an earlier result")
    with pytest.raises(OnnxUniptsError, match="output y differs"):
        compress(path, tmp_path)
    assert (tmp_path / "m.sparse.onnx").read_bytes() == b"an earlier result"
    left = {found.name for found in tmp_path.iterdir()}
    assert left == {"m.onnx", "weights.bin", "m.sparse.onnx", "m.sparse.run"}


def test_a_file_of_other_zeros_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def spoil(student: Any, model: Any, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return write_back(student, model, tensors | {"w3": tensors["w3"] + np.float32(1e-6)})

    write_back = finish.write_back
    monkeypatch.setattr(finish, "write_back", spoil)
    with pytest.raises(TargetMissedError, match="w3 keeps 32 values"):
        compress(classifier(), tmp_path)
    assert not (tmp_path / "m.sparse.onnx").exists()


def test_two_files_are_compared(tmp_path: Path):
    result = compress(classifier(), tmp_path, UNTRAINED)
    assert result.output is not None
    document = api.evaluate(tmp_path / "m.onnx", result.output, data={"x": images()})
    after = result.report["fidelity"]["after_recovery"]
    assert document["fidelity"]["sparse"]["divergence"] == pytest.approx(after["divergence"])
    assert document["sparsity"]["zeros"] == floor_of(0.8, PRUNABLE)


def test_two_files_that_answer_with_a_class_are_compared_by_its_scores(tmp_path: Path):
    text = CLASSIFIER.replace("float[N,4] y", "int64[N] y").replace("y = Gemm", "z = Gemm")
    text = text.replace("w3, b3)", "w3, b3) y = ArgMax <axis = 1, keepdims = 0> (z)")
    result = compress(network(text, classifier_tensors()), tmp_path, UNTRAINED)
    assert result.output is not None
    data = {"x": images(), "labels": np.zeros(48, np.int64)}
    document = api.evaluate(tmp_path / "m.onnx", result.output, data=data)
    after = result.report["fidelity"]["after_recovery"]
    assert document["fidelity"]["sparse"]["divergence"] == pytest.approx(after["divergence"])
    (answers,) = outputs(result.output, {"x": images()})
    assert document["accuracy"]["sparse"] == (answers == 0).mean()


@pytest.mark.parametrize("epochs", [0, 1])
def test_answers_that_are_ruled_out_in_every_sample_are_no_difference(epochs: int, tmp_path: Path):
    text = CLASSIFIER.replace("y = Gemm", "z = Gemm").replace(
        "w3, b3)", "w3, b3) likely = Greater (z, zero) y = Where (likely, z, never)"
    )
    limits = {"zero": np.float32(0), "never": np.float32(-np.inf)}
    model = network(text, classifier_tensors() | limits)
    result = compress(model, tmp_path, UNTRAINED | {"training.epochs": epochs})
    assert result.output is not None
    assert result.report["sparsity"]["zeros"] == floor_of(0.8, PRUNABLE)
    (y,) = outputs(result.output, {"x": images()})
    assert np.isneginf(y).any(axis=1).all()


def test_files_of_different_signatures_are_not_compared(tmp_path: Path):
    other_outputs = network(
        CLASSIFIER.replace("y)", "q)").replace("y =", "q ="), classifier_tensors()
    )
    with pytest.raises(UsageError, match="outputs are q"):
        api.evaluate(
            saved(classifier(), tmp_path),
            saved(other_outputs, tmp_path, "q.onnx"),
            data={"x": images()},
        )
