"""The table of methods: every run in a process of its own, failures named, spread over seeds."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_networks import classifier, images, saved

REPOSITORY = Path(__file__).parents[1]


def table(tmp_path: Path, *arguments: str) -> tuple[dict, str]:
    saved(classifier(), tmp_path, "small.onnx")
    labels = np.arange(48) % 4
    np.savez(tmp_path / "data.npz", x=images(), labels=labels)
    out = tmp_path / "methods.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "methods.py"), "--out", str(out)]
    command += [
        "--case",
        f"small={tmp_path / 'small.onnx'} --data {tmp_path / 'data.npz'} --jobs 1",
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return json.loads(out.read_text()), done.stdout


def test_methods_are_measured_in_processes_of_their_own(tmp_path: Path):
    document, shown = table(
        tmp_path, "--methods", "random", "--sparsities", "0.5", "--seeds", "0,1"
    )
    one, other = document["runs"]
    assert one["error"] == other["error"] == ""
    assert (one["seed"], other["seed"]) == (0, 1)
    (row,) = document["table"]
    for key in ("after", "seconds", "peak_bytes"):
        mean = (one[key] + other[key]) / 2
        assert row[key]["mean"] == pytest.approx(mean)
        assert row[key]["deviation"] == pytest.approx(abs(one[key] - other[key]) / 2**0.5)
    assert 1e7 < row["peak_bytes"]["mean"] < 2e9
    assert "random" in shown


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path: Path):
    document, shown = table(
        tmp_path, "--methods", "lamp,n-m", "--sparsities", "0.5", "--seeds", "0",
        "--option", "--allocation lamp --set allocation.search.starts=[nonesuch]",
    )  # fmt: skip
    assert len(document["runs"]) == 2
    assert all("nonesuch" in run["error"] for run in document["runs"])
    assert "(1 failed)" in shown
