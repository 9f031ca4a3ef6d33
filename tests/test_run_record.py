"""What a run leaves beside the model: report, allocation, journal, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from compression import (
    PRUNABLE,
    SEARCHED,
    UNTRAINED,
    compress,
    floor_of,
    saved_externally,
    zeros_in,
)
from small_networks import balanced, classifier, images, outputs, saved

from onnx_unipts import api
from onnx_unipts.evaluation import Accuracy, Fidelity
from onnx_unipts.reporting import _harm

pytestmark = pytest.mark.usefixtures("quick_simplification")


def test_the_run_leaves_report_allocation_journal_and_checkpoints(tmp_path: Path):
    labels = np.arange(48) % 4
    result = compress(classifier(), tmp_path, SEARCHED, data={"x": images(), "labels": labels})
    assert result.run_dir == tmp_path / "m.sparse.run"
    report = json.loads((result.run_dir / "report.json").read_text())
    assert report == json.loads(json.dumps(result.report))
    assert report["model"]["path"] == str(tmp_path / "m.onnx")
    assert report["output"].keys() >= {"path", "sha256", "bytes", "bytes_zipped"}
    assert report["output"]["bytes"] == result.output.stat().st_size  # type: ignore[union-attr]
    assert report["seed"] == 0
    assert report["recipe"]["sparsity"] == 0.8
    assert report["versions"]
    assert report["command"]
    (warning,) = report["warnings"]
    assert "answers class 0 for all of 48 samples" in warning  # so it does, with random weights
    sparsity = report["sparsity"]
    zeros = floor_of(0.8, PRUNABLE)
    assert (sparsity["target"], sparsity["weights"], sparsity["zeros"]) == (0.8, PRUNABLE, zeros)
    assert sparsity["achieved"] == pytest.approx(zeros / PRUNABLE)
    assert [layer["name"] for layer in sparsity["per_layer"]] == ["w1", "w2", "w3"]
    assert sum(layer["zeros"] for layer in sparsity["per_layer"]) == zeros
    for stage in ("before_recovery", "after_recovery"):
        assert report["fidelity"][stage].keys() >= {"divergence", "agreement"}
        low, high = report["accuracy"]["interval"][stage]
        assert low <= report["accuracy"][stage] <= high
    assert 0 <= report["accuracy"]["dense"] <= 1
    time = report["time"]
    phases = [time[f"{phase}_seconds"] for phase in ("preparation", "search", "training")]
    assert min(phases) > 0
    assert time["total_seconds"] >= sum(phases)
    search = report["search"]
    assert search["images"] == 32 * search["evaluations"]
    assert search["best_by_generation"] == sorted(search["best_by_generation"])
    assert len(search["best_by_generation"]) == 4
    assert report["training"]["steps"] == len(report["training"]["loss"]) == 3
    assert report["training"]["images"] == 48
    assert report["memory_peak_bytes"] > 10_000_000
    journal = (result.run_dir / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in journal].count("generation") == 4
    assert (result.run_dir / "checkpoint-training.npz").is_file()


def test_the_report_says_what_the_written_file_computes(tmp_path: Path):
    result = compress(classifier(), tmp_path, eval_data={"x": images(30, seed=5)})
    assert result.output is not None
    feeds = {"x": images(30, seed=5)}
    dense, sparse = (outputs(path, feeds)[0] for path in (tmp_path / "m.onnx", result.output))
    p, q = (np.exp(z.astype(np.float64)) for z in (dense, sparse))
    p, q = (e / e.sum(axis=1, keepdims=True) for e in (p, q))
    after = result.report["fidelity"]["after_recovery"]
    assert after["samples"] == 30
    assert after["divergence"] == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-3)
    agreement = (dense.argmax(axis=1) == sparse.argmax(axis=1)).mean()
    assert after["agreement"] == pytest.approx(agreement)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_recovery_that_does_harm_is_warned_of(labelled: bool, tmp_path: Path):
    noise = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    x = images(256, seed=9)
    (scores,) = outputs(balanced(), {"x": x})
    measured = {"x": x, "labels": scores.argmax(axis=1)} if labelled else {"x": x}
    result = compress(balanced(), tmp_path, sparsity=0.3, data={"x": 8 * noise}, eval_data=measured)
    said = [text for text in result.report["warnings"] if "recovery did harm: " in text]
    assert len(said) == 1
    facts = result.report["accuracy" if labelled else "fidelity"]
    before, after = (facts[f"{stage}_recovery"] for stage in ("before", "after"))
    if labelled:
        assert f"accuracy {after:.2%}, without it {before:.2%};" in said[0]
    else:
        assert after["divergence"] > 1.5 * before["divergence"]


@pytest.mark.parametrize(
    ("right", "divergences", "expected"),
    [
        ((900, 850), (0.1, 0.1), "accuracy 85.00%, without it 90.00%"),
        ((900, 890), (0.1, 9.0), ""),
        ((850, 900), (0.1, 9.0), ""),
        (None, (0.1, 0.2), "divergence 0.2, without it 0.1"),
        (None, (0.1, 0.14), ""),
        (None, (0.0, 1e-5), ""),
        (None, (0.2, 0.1), ""),
    ],
)
def test_harm_is_what_chance_does_not_explain(
    right: tuple[int, int] | None, divergences: tuple[float, float], expected: str
):
    stages = ("before_recovery", "after_recovery")
    fidelity = {s: Fidelity(1000, d, None) for s, d in zip(stages, divergences, strict=True)}
    accuracy = {s: Accuracy(1000, count) for s, count in zip(stages, right or (), strict=False)}
    assert _harm(fidelity, accuracy) == expected


def test_weights_in_a_data_file_stay_in_one_and_count_in_the_sizes(tmp_path: Path):
    path = saved_externally(classifier(), tmp_path)
    result = compress(path, tmp_path, UNTRAINED)
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.8, PRUNABLE)
    output_data = tmp_path / "m.sparse.onnx.data"
    for side, files in (
        ("model", (path, tmp_path / "weights.bin")),
        ("output", (result.output, output_data)),
    ):
        size = sum(file.stat().st_size for file in files)
        assert result.report[side]["bytes"] == size


def test_a_dry_run_writes_nothing(tmp_path: Path):
    result = compress(classifier(), tmp_path, dry_run=True)
    assert result.output is None
    assert result.report["sparsity"]["weights"] == PRUNABLE
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_without_data_synthetic_inputs_serve_and_the_report_warns(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    chosen = UNTRAINED | {"num_samples": 64}
    result = api.compress(path, sparsity=0.9, settings=chosen, jobs=1, format="dense")
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.9, PRUNABLE)
    assert any("synthetic" in warning for warning in result.report["warnings"])
