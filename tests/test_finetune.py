"""Training at the sparsity of each layer that a search found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from compression import QUICK, compress
from small_networks import classifier, images, saved

import onnx_unipts
from onnx_unipts.cli import main
from onnx_unipts.graph.errors import UsageError

pytestmark = pytest.mark.usefixtures("quick_simplification")


def test_it_goes_on_from_the_search(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    np.savez(tmp_path / "x.npz", x=images())
    data = ["--data", str(tmp_path / "x.npz"), "--set", "training.batch_size=16", "-q"]
    words = ["search", str(path), *data, "--sparsity", "0.8", "--allocation", "erk"]
    assert CliRunner().invoke(main, words).exit_code == 0
    found = json.loads((tmp_path / "m.sparse.run" / "allocation.json").read_text())
    words = ["finetune", str(path), *data, "--json", "--epochs", "1"]
    done = CliRunner().invoke(main, [*words, "--report", str(tmp_path / "new" / "shown")])
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    kept = {each["name"]: each["count"] - each["zeros"] for each in report["sparsity"]["per_layer"]}
    assert kept == {layer["name"]: layer["kept"] for layer in found["layers"]}
    assert report["sparsity"]["target"] == 0.8
    assert report["training"]["steps"] > 0
    copied = json.loads((tmp_path / "new" / "shown" / "report.json").read_text())
    assert copied["sparsity"] == report["sparsity"]
    assert "<html" in (tmp_path / "new" / "shown" / "report.html").read_text()[:500]


def test_it_is_what_compress_makes_of_the_file(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    first = compress(path, tmp_path, output=tmp_path / "a.onnx", jobs=1)
    tuned = onnx_unipts.finetune(
        path, allocation=first.run_dir / "allocation.json", output=tmp_path / "b.onnx",
        data={"x": images()}, jobs=1, format="dense", settings=QUICK,
    )  # fmt: skip
    assert first.output is not None
    assert tuned.output is not None
    assert tuned.output.read_bytes() == first.output.read_bytes()


@pytest.mark.parametrize("named", ["", "lamp", "broken.json"])
def test_without_an_allocation_it_says_what_to_do(tmp_path: Path, named: str):
    path = saved(classifier(), tmp_path)
    (tmp_path / "broken.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(UsageError, match=r"search first|is not an allocation"):
        onnx_unipts.finetune(
            path, allocation=tmp_path / named if named else None, data={"x": images()}
        )
    assert not (tmp_path / "m.sparse.run").exists()


def test_reports_go_to_a_directory_for_each_sparsity_and_to_no_file(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    options: dict[str, Any] = {"data": {"x": images()}, "jobs": 1}
    options["settings"] = QUICK | {"training.epochs": 0}
    onnx_unipts.sweep(path, [0.5, 0.7], report=tmp_path / "shown", **options)
    for sparsity in ("0.5", "0.7"):
        report = json.loads((tmp_path / "shown" / sparsity / "report.json").read_text())
        assert report["sparsity"]["target"] == float(sparsity)
    goal = onnx_unipts.compress_to(path, "zipped=1MB", report=tmp_path / "goal", **options)
    assert json.loads((tmp_path / "goal" / "report.json").read_text()) == goal.report
    with pytest.raises(UsageError, match=r"m\.onnx is a file; give the name of a directory"):
        onnx_unipts.compress(path, sparsity=0.5, report=path, **options)


def test_a_search_of_channels_is_gone_on_with_by_compress(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    np.savez(tmp_path / "x.npz", x=images())
    data = ["--data", str(tmp_path / "x.npz"), "--pattern", "channel", "--epochs", "0", "-q"]
    chosen = ["--sparsity", "0.5", "--allocation", "lamp"]
    found = CliRunner().invoke(main, ["search", str(path), *data, *chosen])
    assert found.exit_code == 0, found.stderr
    tuned = CliRunner().invoke(main, ["finetune", str(path), *data])
    assert tuned.exit_code == 2
    assert "a file says nothing of channels; go on from a search with compress -" in tuned.stderr
    gone_on = CliRunner().invoke(main, ["compress", str(path), *data, *chosen, "--resume"])
    assert gone_on.exit_code == 0, gone_on.stderr


@pytest.mark.parametrize(("change", "amiss"), [(-3, "3 too few"), (3, "3 too many")])
def test_an_allocation_of_other_weights_than_its_sparsity_is_refused(
    tmp_path: Path, change: int, amiss: str
):
    path, file = saved(classifier(), tmp_path), tmp_path / "allocation.json"
    kept = {"w1": 70 + change, "w2": 70, "w3": 25}
    layers = [{"name": name, "kept": count} for name, count in kept.items()]
    file.write_text(json.dumps({"target": 0.8, "layers": layers}), encoding="utf-8")
    told = rf"keeps {165 + change} weights in all, {amiss}: sparsity 0\.8 keeps 165 of 824"
    with pytest.raises(UsageError, match=told):
        onnx_unipts.finetune(path, allocation=file, data={"x": images()}, settings=QUICK)
