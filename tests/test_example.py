"""The example that ships: its model, its data, and what the command line makes of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import onnx_unipts

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "digits"
WEIGHTS = {"conv1.weight": 144, "conv2.weight": 4608, "conv3.weight": 18432}
WEIGHTS |= {"classifier.weight": 10240}
COUNT = sum(WEIGHTS.values())


def accuracy(model: Path, data: Path = EXAMPLE / "test.npz") -> float:
    """Return the accuracy of the model file in plain onnxruntime, with none of the project."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    with np.load(data) as test:
        (scores,) = session.run(["logits"], {"image": test["image"]})
        return float((scores.argmax(axis=1) == test["labels"]).mean())


def readme_accuracies() -> list[float]:
    """Return what the README shows for the example: dense, before and after recovery."""
    (row,) = re.findall(r"^accuracy .*$", (REPOSITORY / "README.md").read_text("utf-8"), re.M)
    return [float(share) / 100 for share in re.findall(r"[\d.]+", row)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Compress the example by the console script; return the sparse file and the report."""
    output = tmp_path_factory.mktemp("example") / "digits.sparse.onnx"
    command = [Path(sysconfig.get_path("scripts")) / "onnx-unipts", "compress"]
    command += [EXAMPLE / "digits.onnx", "-o", output, "--sparsity", "0.9", "--epochs", "10"]
    command += ["--data", EXAMPLE / "calibration.npz", "--eval-data", EXAMPLE / "test.npz"]
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, cwd=output.parent, check=False
    )
    assert done.returncode == 0, done.stderr
    return output, json.loads(done.stdout)


def test_the_files_are_small():
    files = ("digits.onnx", "calibration.npz", "test.npz", "train_digits.py")
    assert sum((EXAMPLE / file).stat().st_size for file in files) < 300_000


def test_inspect_lists_every_weight_as_pruned():
    weights = onnx_unipts.inspect(EXAMPLE / "digits.onnx")["weights"]
    assert {w["name"]: w["count"] for w in weights if w["pruned"]} == WEIGHTS
    assert len(weights) == len(WEIGHTS)


def test_the_batch_is_dynamic():
    document = onnx_unipts.inspect(EXAMPLE / "digits.onnx")
    assert document["inputs"] == [{"name": "image", "shape": ["N", 1, 8, 8], "dtype": "FLOAT"}]
    assert document["outputs"] == [{"name": "logits", "shape": ["N", 10], "dtype": "FLOAT"}]


def test_calibration_data_is_unlabelled_and_none_of_it_is_tested_on():
    with np.load(EXAMPLE / "calibration.npz") as data, np.load(EXAMPLE / "test.npz") as test:
        assert data.files == ["image"]
        assert sorted(test.files) == ["image", "labels"]
        both = np.concatenate([data["image"], test["image"]])
    assert both.dtype == np.float32
    assert len(np.unique(both.reshape(len(both), -1), axis=0)) == len(both)


def test_the_dense_model_is_as_accurate_as_the_readme_says():
    assert accuracy(EXAMPLE / "digits.onnx") == pytest.approx(readme_accuracies()[0], abs=0.004)


def test_exactly_the_asked_share_of_weights_is_zero(run: tuple[Path, dict], tmp_path: Path):
    """Of the rest only what dead channels would have read is not in the file."""
    onnx_unipts.unpack(run[0], tmp_path / "plain.onnx")
    model = onnx.load(tmp_path / "plain.onnx")
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kept = sum(int(np.count_nonzero(stored[name])) for name in WEIGHTS)
    assert run[1]["sparsity"]["zeros"] == COUNT * 9 // 10
    asked = COUNT - COUNT * 9 // 10
    assert asked * 0.95 < kept <= asked
    assert run[1]["dead_channels"]["removed"] or kept == asked
    document = onnx_unipts.evaluate(EXAMPLE / "digits.onnx", run[0], num_samples=8)
    assert document["sparsity"]["weights"] == COUNT
    assert document["sparsity"]["zeros"] == COUNT - kept
    assert all((stored[name] != 0).any() for name in WEIGHTS)


def test_the_written_file_has_the_signature_of_the_dense_one(run: tuple[Path, dict]):
    dense, sparse = onnx.load(EXAMPLE / "digits.onnx"), onnx.load(run[0])
    onnx.checker.check_model(sparse, full_check=True)
    assert sparse.graph.input == dense.graph.input
    assert sparse.graph.output == dense.graph.output
    assert sparse.opset_import == dense.opset_import


def test_recovery_brings_the_accuracy_back(run: tuple[Path, dict]):
    output, report = run
    measured = report["accuracy"]
    assert measured["before_recovery"] < measured["after_recovery"]
    assert measured["after_recovery"] == pytest.approx(accuracy(output))
    assert measured["after_recovery"] == pytest.approx(readme_accuracies()[2], abs=0.015)


def test_zipped_the_sparse_file_is_less_than_a_fifth_of_the_dense_one(run: tuple[Path, dict]):
    model, output = run[1]["model"], run[1]["output"]
    assert output["bytes_zipped"] < model["bytes_zipped"] / 5


def test_the_training_script_makes_the_same_data_and_as_good_a_model(tmp_path: Path):
    script = EXAMPLE / "train_digits.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, cwd=tmp_path)
    for name in ("calibration.npz", "test.npz"):
        with np.load(tmp_path / name) as made, np.load(EXAMPLE / name) as shipped:
            assert made.files == shipped.files
            assert all((made[key] == shipped[key]).all() for key in shipped.files)
    shipped_accuracy = accuracy(EXAMPLE / "digits.onnx")
    assert accuracy(tmp_path / "digits.onnx") == pytest.approx(shipped_accuracy, abs=0.01)
