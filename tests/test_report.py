"""The report says what was measured, to machines and on an 80-column terminal alike."""

import hashlib
import io
import json
import zlib

import numpy as np
import pytest

from onnx_unipts.evaluation import Accuracy, Fidelity
from onnx_unipts.graph.prunable import PrunableWeight
from onnx_unipts.json_text import to_json
from onnx_unipts.recipe import Recipe
from onnx_unipts.report import (
    LayerSparsity,
    Report,
    describe_file,
    evaluation_document,
    layer_sparsities,
    report_document,
)
from onnx_unipts.report.storage import entropy_bound
from onnx_unipts.report.terminal import (
    print_evaluation,
    print_plan,
    print_report,
    print_search,
)

LAYERS = [
    LayerSparsity("/stage1/block[0]/conv.weight", "Conv", (16, 3, 3, 3), 432, 200),
    LayerSparsity("fc.weight", "Gemm", (10, 64), 640, 600),
]


@pytest.fixture
def report(tmp_path) -> dict:
    dense, sparse = tmp_path / "model.onnx", tmp_path / "model.sparse.onnx"
    dense.write_bytes(np.random.default_rng(0).bytes(4096))
    sparse.write_bytes(bytes(4096))
    outcome = Report(
        command="onnx-unipts compress model.onnx --sparsity 0.75",
        recipe=Recipe().model_dump(mode="json"),
        versions={"onnx": "1.23.2"},
        seed=0,
        model=describe_file(dense),
        output=describe_file(sparse),
        target=0.75,
        layers=LAYERS,
        fidelity={
            "before_recovery": Fidelity(100, 2.5, 0.25),
            "after_recovery": Fidelity(100, 0.25, 0.96),
        },
        accuracy={
            "dense": Accuracy(100, 82),
            "before_recovery": Accuracy(100, 24),
            "after_recovery": Accuracy(100, 80),
        },
        data={"description": "1000 images from photos/", "samples": 1000, "skipped": 0},
        measured_on={"description": "100 images from test/", "samples": 100, "skipped": 0},
        time={"search_seconds": 10.0, "training_seconds": 200.0, "total_seconds": 4000.0},
        search={"evaluations": 100, "images": 25600, "best_by_generation": [-1.0, -0.5]},
        training={"steps": 480, "images": 30720, "loss": [np.float32(0.5), float("nan")]},
        memory_peak_bytes=400_000_000,
        warnings=["no data was given"],
    )
    return report_document(outcome)


def test_the_document_is_json_with_the_promised_keys(report: dict):
    assert json.loads(to_json(report)) == report
    assert set(report) >= {
        *("command", "recipe", "versions", "seed", "model", "output", "sparsity", "fidelity"),
        *("accuracy", "time", "search", "training", "memory_peak_bytes", "warnings"),
    }
    assert set(report["output"]) == {"path", "sha256", "bytes", "bytes_zipped"}
    assert report["training"]["loss"] == [0.5, None]


def test_the_sparsity_adds_up(report: dict):
    sparsity = report["sparsity"]
    assert sparsity["target"] == 0.75
    assert (sparsity["weights"], sparsity["zeros"]) == (1072, 800)
    assert sparsity["achieved"] == 800 / 1072
    assert sparsity["per_layer"][1] == {
        "name": "fc.weight",
        "operator": "Gemm",
        "shape": [10, 64],
        "count": 640,
        "zeros": 600,
        "sparsity": 600 / 640,
    }


def test_accuracy_and_fidelity_stand_by_stage_with_their_intervals(report: dict):
    accuracy, fidelity = report["accuracy"], report["fidelity"]
    assert accuracy["dense"] == 0.82
    assert accuracy["after_recovery"] == 0.80
    assert accuracy["samples"] == 100
    low, high = accuracy["interval"]["after_recovery"]
    assert low < 0.8 < high
    assert fidelity["before_recovery"]["divergence"] == 2.5
    assert fidelity["after_recovery"]["agreement"] == 0.96
    low, high = fidelity["interval"]["after_recovery"]
    assert low < 0.96 < high


def test_what_was_not_measured_is_null():
    outcome = Report("compress", {}, {}, 0, {}, 0.9, LAYERS)
    document = report_document(outcome)
    assert document["accuracy"] is None
    assert document["fidelity"] is None
    assert document["output"] is None


def test_files_are_described_by_hash_and_sizes_external_data_included(tmp_path):
    model, data = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    model.write_bytes(b"graph")
    data.write_bytes(bytes(3_000_000))
    described = describe_file(model, [data])
    assert described["sha256"] == hashlib.sha256(b"graph").hexdigest()
    assert described["bytes"] == 3_000_005
    zipped = len(zlib.compress(b"graph")) + len(zlib.compress(bytes(3_000_000)))
    assert described["bytes_zipped"] == zipped


def test_zeros_are_counted_in_the_pruned_weights_alone():
    def weight(name: str, pruned: bool) -> PrunableWeight:
        reason = "" if pruned else "excluded"
        return PrunableWeight(
            name, "", "Gemm", ("fc",), (2, 2), "FLOAT", 4, 1, 0, pruned, None, reason, ()
        )

    tensors = {"a": np.array([[0.0, 1], [-0.0, 2]], np.float32)}
    (layer,) = layer_sparsities([weight("a", True), weight("b", False)], tensors)
    assert (layer.name, layer.zeros, layer.sparsity) == ("a", 2, 0.5)


def test_the_table_fits_80_columns_and_shows_every_measure(report: dict):
    report["output"]["path"] = "model.sparse.onnx"
    stream = io.StringIO()
    print_report(report, stream)
    text = stream.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for expected in (
        "/stage1/block[0]/conv.weight",
        "16x3x3x3",
        "93.75 %",
        "82.00 %",
        "24.00 %",
        "80.00 %",
        "96.00 %",
        "800 of 1,072 weights are zero",
        "4.10 kB",
        "training 3 min 20 s",
        "total 1 h 06 min",
        "400.00 MB",
        "100 candidates on 25,600 samples, best fitness -0.5",
        "1000 images from photos/",
        "100 images from test/",
    ):
        assert expected in text


def test_long_names_stay_on_one_line_in_a_pipe(report: dict):
    name = "model/" + "very_long_scope/" * 6 + "kernel:0"
    report["sparsity"]["per_layer"][0]["name"] = name
    stream = io.StringIO()
    print_report(report, stream)
    (line,) = [line for line in stream.getvalue().splitlines() if name in line]
    assert "46.30 %" in line


def test_a_search_shows_the_allocation_and_not_the_dense_model(report: dict):
    kept = [{"name": layer.name, "kept": layer.count // 4} for layer in LAYERS]
    report["allocation"] = {"layers": kept}
    stream = io.StringIO()
    print_search(report, stream)
    assert "75.00 %" in stream.getvalue()
    assert "804 of 1,072 weights will be zero" in stream.getvalue()


def test_a_plan_says_that_nothing_was_written(report: dict):
    stream = io.StringIO()
    print_plan(report, stream)
    assert "75.00 % of the 1,072 weights in 2 tensors" in stream.getvalue()
    assert "no model was written" in stream.getvalue()


def test_an_evaluation_shows_dense_beside_sparse(report: dict):
    document = evaluation_document(
        report["model"],
        report["output"],
        LAYERS,
        Fidelity(50, 0.5, None),
        {"dense": Accuracy(50, 41), "sparse": Accuracy(50, 40)},
        {"description": "50 images"},
    )
    assert document["fidelity"]["sparse"]["divergence"] == 0.5
    assert document["fidelity"]["interval"] == {}
    stream = io.StringIO()
    print_evaluation(document, stream)
    assert "82.00 %" in stream.getvalue()
    assert "agreement" not in stream.getvalue()


def test_the_entropy_bound_knows_what_values_take_and_what_was_cut():
    layers = [
        LayerSparsity("a", "Conv", (4, 4), 1000, 900),
        LayerSparsity("b", "Gemm", (4, 4), 1000, 0),
    ]
    sizes = {"a": 4, "b": 4}
    plain = entropy_bound(10_000, layers, sizes)
    assert plain == round(10_000 - 900 * 4 + 1000 * 0.4689956 / 8)
    assert entropy_bound(10_000, layers, sizes, 2) == plain - 100 * 2 - 1000 * 2
    assert entropy_bound(10_000, layers, sizes, cut={"a": 100}) == 10_000 - 900 * 4
    assert entropy_bound(1_000, layers, sizes) >= 0  # a file that was packed before
