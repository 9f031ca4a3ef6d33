"""The command benchmark: two files measured in turn, and who gains from the zeros."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from small_networks import CLASSIFIER, classifier, draw, network, perceptron, saved

import onnx_unipts
from onnx_unipts.cli import main
from onnx_unipts.gains import gains, recognized
from onnx_unipts.graph.errors import OnnxUniptsError, UsageError
from onnx_unipts.graph.model import load_model
from onnx_unipts.measurement import measure, measure_in_run
from onnx_unipts.patterns import parse_pattern

QUICK = {"seconds": 0.2}


def sparse_network(sparsity: float) -> onnx.ModelProto:
    shapes = {"w1": (64, 3, 3, 3), "b1": (64,), "w2": (64, 64, 3, 3), "b2": (64,)}
    tensors = draw(0, **shapes, w3=(4, 64), b3=(4,))
    rng = np.random.default_rng(0)
    for name in ("w1", "w2", "w3"):
        tensors[name][rng.random(tensors[name].shape) < sparsity] = 0
    return network(CLASSIFIER, tensors)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    dense = saved(sparse_network(0.0), tmp_path, "dense.onnx")
    plain = saved(sparse_network(0.9), tmp_path, "plain.onnx")
    onnx_unipts.pack(plain, tmp_path / "sparse.onnx")
    return dense, tmp_path / "sparse.onnx"


def test_sizes_times_and_memory_of_both_are_measured(files: tuple[Path, Path]):
    arguments = ["benchmark", *map(str, files), "--seconds", "0.2"]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    for model, path in zip(("dense", "sparse"), files, strict=True):
        assert document[model]["bytes"] == path.stat().st_size
        assert 0 < document[model]["bytes_zipped"] < path.stat().st_size
        assert document["memory"][f"{model}_bytes"] > document["memory"]["runtime_bytes"] > 0
        assert document["latency"][f"{model}_ms"] > 0
        assert document["load"][f"{model}_ms"] > 0
    assert document["bytes_entropy_bound"] < document["sparse"]["bytes"]
    assert document["sparsity"]["achieved"] == pytest.approx(0.9, abs=0.01)
    assert min(document[key]["runs"] for key in ("latency", "load")) >= 3
    assert [text for text in document["runtimes"] if "single zeros" in text]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0, shown.output
    for title in ("entropy bound", "latency", "load time", "peak memory", "gain"):
        assert title in shown.stdout


def test_a_file_in_ort_format_is_measured_too(files: tuple[Path, Path], tmp_path: Path):
    from onnx_unipts.export import FORMATS, Storage

    FORMATS["ort"]().write(load_model(files[1]), tmp_path / "sparse.ort", Storage("ort"))
    document = onnx_unipts.benchmark(files[0], tmp_path / "sparse.ort", **QUICK)
    assert document["sparsity"] is None
    assert document["latency"]["sparse_ms"] > 0


def test_another_model_is_refused(files: tuple[Path, Path], tmp_path: Path):
    model = classifier()
    model.graph.input[0].name = model.graph.node[0].input[0] = "other"
    with pytest.raises(UsageError, match="two versions of one model"):
        onnx_unipts.benchmark(files[0], saved(model, tmp_path, "other.onnx"))


def test_a_model_that_does_not_load_is_named(tmp_path: Path):
    good = saved(perceptron(), tmp_path, "good.onnx")
    model = perceptron()
    model.graph.node[0].op_type = "MatMal"
    bad = saved(model, tmp_path, "bad.onnx")
    feeds = {"x": np.zeros((1, 10), np.float32)}
    with pytest.raises(OnnxUniptsError, match=r"bad\.onnx: its process ended: .*MatMal"):
        measure(good, bad, feeds, 1, 1, 0.1)


@pytest.mark.parametrize("name", ["2:4", "4x1", "unstructured"])
def test_a_pattern_is_recognised_by_its_zeros(name: str, tmp_path: Path):
    tensors = draw(0, w1=(8, 4, 3, 3), b1=(8,), w2=(8, 8, 3, 3), b2=(8,), w3=(4, 8), b3=(4,))
    for tensor in (tensors["w1"], tensors["w2"], tensors["w3"]):
        if name == "2:4":
            tensor[:, 0::4] = tensor[:, 1::4] = 0
        else:
            tensor[: 4 if name == "4x1" else 3, :1] = 0
    text = CLASSIFIER.replace("float[N,3,8,8]", "float[N,4,8,8]")
    model = load_model(saved(network(text, tensors), tmp_path))
    assert recognized(model).name == name


def test_a_report_of_a_larger_model_tells_of_loading_and_memory(tmp_path: Path):
    text = "net (float[N,10] x) => (float[N,4] y) { h = MatMul (x, w1)  y = MatMul (h, w2) }"
    feeds = {"x": np.zeros((1, 10), np.float32)}
    for width, keys in ((8, {"latency"}), (30_000, {"latency", "load", "memory"})):
        model = network(text, draw(0, w1=(10, width), w2=(width, 4)))
        path = saved(model, tmp_path)
        assert set(measure_in_run(path, path, feeds, 1, 1)) == keys


@pytest.mark.parametrize("name", ["unstructured", "2:4", "1:4", "4x1", "1x4", "channel"])
def test_every_pattern_says_in_a_sentence_which_runtimes_gain(name: str):
    (sentence,) = gains(parse_pattern(name))
    assert "runtime" in sentence
    cut = gains(parse_pattern(name), cut=True, quantized="int8")
    assert len(cut) == len(set(cut)) == (2 if name == "channel" else 3)


@pytest.mark.parametrize("done", [{"cut": True}, {"quantized": "int8"}])
def test_no_speed_is_claimed_that_was_not_measured(done: dict):
    pattern = parse_pattern("unstructured")
    for ratio in (0.62, 1.07):
        *claims, measured = gains(pattern, **done, ratio=ratio)
        assert claims == gains(pattern, **done)
        assert not [text for text in claims if "every runtime faster" in text]
        assert f"one run takes {ratio:.2f} of the dense model's time" in measured
        assert ("no gain in speed" in measured) == (ratio > 1)
    assert gains(pattern, ratio=1.07) == gains(pattern)


def test_channels_cut_out_go_with_the_ratio_that_the_same_document_holds(tmp_path: Path):
    tensors = draw(0, w1=(64, 3, 3, 3), b1=(64,), w2=(64, 64, 3, 3), b2=(64,), w3=(4, 64), b3=(4,))
    dense = saved(network(CLASSIFIER, tensors), tmp_path, "dense.onnx")
    tensors |= {"w1": tensors["w1"][:32], "b1": tensors["b1"][:32], "w2": tensors["w2"][:, :32]}
    cut = saved(network(CLASSIFIER, tensors), tmp_path, "cut.onnx")
    document = onnx_unipts.benchmark(dense, cut, **QUICK)
    (said,) = [text for text in document["runtimes"] if "measured here" in text]
    assert f"{document['latency']['ratio']:.2f}" in said
