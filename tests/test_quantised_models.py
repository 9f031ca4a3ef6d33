"""Quantised models: float weights are trained through integers, integer ones pruned by choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
from onnxruntime.quantization.quantize import quantize_dynamic, quantize_static
from small_networks import classifier, draw, perceptron, saved

from onnx_unipts import api, measurement
from onnx_unipts.cli import main

pytestmark = pytest.mark.usefixtures("quick_simplification")

QUICK: dict[str, Any] = {"training.epochs": 1, "allocation.method": "lamp", "num_samples": 32}


class Reader(CalibrationDataReader):
    """A few random inputs."""

    def __init__(self, *shape: int) -> None:
        draws = np.random.default_rng(0).standard_normal((4, 8, *shape), np.float32)
        self._runs = iter([{"x": run} for run in draws])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._runs, None)


@pytest.fixture(autouse=True)
def _quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "REPORT_SECONDS", 0.0)


def operators(directory: Path, floats: tuple[str, ...] = ()) -> Path:
    """Return QLinearConv, QGemm and their like, but for the nodes in ``floats``."""
    source, path = saved(named(classifier()), directory), directory / "q.onnx"
    quantize_static(
        source,
        path,
        Reader(3, 8, 8),
        quant_format=QuantFormat.QOperator,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(floats),
    )
    return path


def dynamic(directory: Path, floats: tuple[str, ...] = ()) -> Path:
    """Return DynamicQuantizeLinear and MatMulInteger, but for the nodes in ``floats``."""
    source, path = saved(named(perceptron()), directory), directory / "q.onnx"
    weights = QuantType.QUInt8
    quantize_dynamic(source, path, weight_type=weights, nodes_to_exclude=list(floats))
    return path


def few_bits(directory: Path, floats: bool = True) -> Path:
    """Return MatMulNBits, behind a MatMul of ``floats`` or alone."""
    rng = np.random.default_rng(0)
    stored = {
        "w": draw(0, w=(10, 32))["w"],
        "q": rng.integers(0, 256, (8, 2, 8)).astype(np.uint8),
        "s": rng.uniform(0.1, 0.2, 16).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node(
            "MatMulNBits",
            ["r" if floats else "x", "q", "s"],
            ["y"],
            domain="com.microsoft",
            **{"K": 32, "N": 8, "bits": 4, "block_size": 16},
        ),
    ]
    size = 10 if floats else 32
    graph = helper.make_graph(
        nodes if floats else nodes[2:],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(t, name) for name, t in stored.items() if floats or name != "w"],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return saved(helper.make_model(graph, opset_imports=opsets, ir_version=8), directory)


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    return model


@pytest.mark.parametrize(
    ("make", "pruned", "listed"),
    [
        (lambda path: operators(path, ("n0", "n6")), {"w1", "w3"}, {"w2_quantized"}),
        (lambda path: dynamic(path, ("n0",)), {"w1"}, {"w2_quantized"}),
        (few_bits, {"w"}, {"q"}),
    ],
    ids=["operators", "dynamic", "few bits"],
)
def test_float_weights_before_integers_are_trained(
    make: Any, pruned: set[str], listed: set[str], tmp_path: Path
):
    path = make(tmp_path)
    weights = {weight["name"]: weight for weight in api.inspect(path)["weights"]}
    assert {name for name, weight in weights.items() if weight["pruned"]} == pruned
    assert {name for name, w in weights.items() if "stored as integers" in w["reason"]} == listed
    result = api.compress(path, sparsity=0.5, settings=QUICK, jobs=1)
    counts, fidelity = result.report["sparsity"], result.report["fidelity"]
    assert counts["zeros"] == counts["weights"] // 2
    assert result.report["training"]["untrained"] == []
    assert fidelity["after_recovery"]["divergence"] < fidelity["before_recovery"]["divergence"]


@pytest.mark.parametrize(
    ("make", "operator"), [(operators, "QLinearConv"), (dynamic, "MatMulInteger")]
)
def test_integers_alone_are_pruned_to_their_zero_point(make: Any, operator: str, tmp_path: Path):
    path = make(tmp_path)
    weights = api.inspect(path)["weights"]
    assert operator in {weight["operator"] for weight in weights}
    result = api.compress(path, sparsity=0.5, settings=QUICK, jobs=1)
    counts = result.report["sparsity"]
    assert counts["zeros"] == counts["weights"] // 2
    assert any("quantised weights are integers" in text for text in result.report["warnings"])
    stored = {t.name: t for t in onnx.load(str(result.output)).graph.initializer}
    zeros = 0
    for weight in weights:
        zero = stored[weight["name"].replace("_quantized", "_zero_point")]
        integers = numpy_helper.to_array(stored[weight["name"]])
        zeros += int((integers == numpy_helper.to_array(zero)).sum())
    assert zeros == counts["zeros"]
    onnxruntime.InferenceSession(str(result.output), providers=["CPUExecutionProvider"])


def test_weights_of_a_few_bits_alone_are_refused_with_the_reason(tmp_path: Path):
    path = few_bits(tmp_path, floats=False)
    done = CliRunner().invoke(main, ["compress", str(path), "--sparsity", "0.5"])
    assert done.exit_code == 4
    assert "stored as integers, not as bytes with one zero point" in done.output


@pytest.mark.parametrize(
    ("asked", "noted"), [("erk", "erk"), ("uniform", "uniform"), ("evolutionary", "lamp")]
)
def test_the_allocation_of_what_is_only_pruned_names_what_made_it(asked, noted, tmp_path: Path):
    settings = QUICK | {"include": ["quantised"], "allocation.method": asked}
    result = api.compress(operators(tmp_path), sparsity=0.5, settings=settings, jobs=1)
    assert result.report["time"]["preparation_seconds"] > 0
    document = json.loads((result.run_dir / "allocation.json").read_text())
    assert document["method"] == noted
