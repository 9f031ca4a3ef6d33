"""The Python interface: results that show themselves, callbacks, the module as a program."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import onnx_unipts
from onnx_unipts import Epoch, Generation
from onnx_unipts.cli import main

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
DATA = {"data": EXAMPLE / "calibration.npz", "eval_data": EXAMPLE / "test.npz"}
SETTINGS = {
    "training.epochs": 2,
    "training.adaptation": 5,
    "training.reconstruction": False,
    "allocation.method": "evolutionary",
    "allocation.search.generations": 1,
    "num_samples": 256,
}


@pytest.fixture(scope="module")
def told() -> list[Generation | Epoch]:
    return []


@pytest.fixture(scope="module")
def result(
    tmp_path_factory: pytest.TempPathFactory, told: list[Generation | Epoch]
) -> onnx_unipts.Result:
    output = tmp_path_factory.mktemp("api") / "digits.sparse.onnx"
    return onnx_unipts.compress(
        EXAMPLE / "digits.onnx", sparsity=0.8, output=output, settings=SETTINGS,
        on_generation=told.append, on_epoch=told.append, **DATA,
    )  # fmt: skip


def test_callbacks_hear_of_every_generation_and_epoch(
    result: onnx_unipts.Result, told: list[Generation | Epoch]
):
    generations = [event for event in told if isinstance(event, Generation)]
    epochs = [event for event in told if isinstance(event, Epoch)]
    assert told == [*generations, *epochs]
    assert [(g.number, g.total) for g in generations] == [(0, 2), (1, 2)]
    assert [(e.number, e.total) for e in epochs] == [(1, 2), (2, 2)]
    best = result.report["search"]["best_by_generation"]
    assert [g.best_fitness for g in generations] == best
    assert [loss for e in epochs for loss in e.losses] == result.report["training"]["loss"]
    assert epochs[0].loss == pytest.approx(sum(epochs[0].losses) / 4)
    assert [e.agreement for e in epochs] == [
        p["agreement"] for p in result.report["training"]["history"][1:]
    ]


def test_what_a_callback_raises_ends_the_run_and_it_can_be_resumed(
    tmp_path: Path, result: onnx_unipts.Result
):
    class Enough(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        if epoch.number == 1:
            raise Enough

    output = tmp_path / "digits.sparse.onnx"
    arguments = {"sparsity": 0.8, "output": output, "settings": SETTINGS, **DATA}
    with pytest.raises(Enough):
        onnx_unipts.compress(EXAMPLE / "digits.onnx", on_epoch=stop, **arguments)
    assert not output.exists()
    epochs: list[Epoch] = []
    resumed = onnx_unipts.compress(
        EXAMPLE / "digits.onnx", on_epoch=epochs.append, resume=True, **arguments
    )
    assert [epoch.number for epoch in epochs] == [2]
    assert resumed.report["output"]["sha256"] == result.report["output"]["sha256"]


def test_a_result_has_its_numbers_at_hand(result: onnx_unipts.Result):
    assert result.sparsity == pytest.approx(0.8, abs=1e-4)
    assert result.accuracy == result.report["accuracy"]["after_recovery"]
    assert result.agreement == result.report["fidelity"]["after_recovery"]["agreement"]
    assert result.page is not None
    assert result.page.name == "report.html"
    assert "sparsity 0.8000, accuracy 0.9" in repr(result)


def test_rich_prints_a_result_as_the_command_line_does(result: onnx_unipts.Result):
    stream = io.StringIO()
    Console(file=stream, width=100).print(result)
    assert "conv2.weight" in stream.getvalue()
    assert "before recovery" in stream.getvalue()


def test_a_notebook_shows_a_result_as_html(result: onnx_unipts.Result):
    html = result._repr_html_()
    parser = HTMLParser()
    parser.feed(html)
    assert html.startswith("<div")
    assert html.count("<tr>") == 5
    assert str(result.page) in html


def test_a_plan_shows_itself_too(tmp_path: Path):
    plan = onnx_unipts.compress(
        EXAMPLE / "digits.onnx", sparsity=0.8, output=tmp_path / "x.onnx", dry_run=True, **DATA
    )
    assert plan.page is None
    assert plan.accuracy is None
    assert "conv2.weight" in plan._repr_html_()
    assert repr(plan).startswith("<Result ")


def test_every_public_name_is_there():
    for name in onnx_unipts.__all__:
        assert getattr(onnx_unipts, name).__doc__


def test_the_package_is_a_program():
    command = [sys.executable, "-m", "onnx_unipts", "recipes"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "unipts-paper" in done.stdout
    helped = subprocess.run([*command[:3], "-h"], capture_output=True, text=True, check=True)
    assert helped.stdout.startswith("Usage: onnx-unipts ")


def batches() -> Iterator[dict[str, np.ndarray]]:
    with np.load(EXAMPLE / "calibration.npz") as arrays:
        for start in range(0, 96, 32):
            yield {"image": arrays["image"][start : start + 32]}


class Reader:
    """As onnxruntime's CalibrationDataReader."""

    def __init__(self) -> None:
        self._batches = batches()

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


@pytest.mark.parametrize("data", [batches, Reader], ids=["generator", "reader"])
def test_what_can_be_read_once_serves_all_runs_of_a_sweep(tmp_path: Path, data: Callable[[], Any]):
    swept = onnx_unipts.sweep(
        EXAMPLE / "digits.onnx", np.array([0.5, 0.7]), data=data(), output=tmp_path / "x.onnx",
        settings={"training.epochs": 0, "allocation.method": "lamp"},
    )  # fmt: skip
    assert [r.report["data"]["samples"] for r in swept.results] == [96, 96]
    assert [r.report["sparsity"]["target"] for r in swept.results] == [0.5, 0.7]


def test_a_sweep_that_is_planned_shows_every_plan(tmp_path: Path):
    path = tmp_path / "digits.onnx"
    path.write_bytes((EXAMPLE / "digits.onnx").read_bytes())
    words = ["compress", str(path), "--sweep", "0.5,0.7", "--dry-run"]
    shown = CliRunner().invoke(main, words).stdout
    assert shown.count("would become zero") == 2
    document = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert [run["sparsity"]["target"] for run in document["runs"]] == [0.5, 0.7]
    assert all(run["estimate"]["total_seconds"] > 0 for run in document["runs"])
    assert [each.name for each in tmp_path.iterdir()] == ["digits.onnx"]


def test_the_report_says_the_call_and_how_pixels_become_values(result: onnx_unipts.Result):
    command = result.report["command"]
    assert command.startswith(f"compress({str(EXAMPLE / 'digits.onnx')!r}, sparsity=0.8, output=")
    assert "'num_samples': 256" in command
    planned = onnx_unipts.compress(
        EXAMPLE / "digits.onnx", sparsity=0.8, dry_run=True,
        data={"image": np.zeros((64, 1, 8, 8), np.float32)},
        preprocessing=onnx_unipts.Preprocessing(preset="minus-one-one", mean=0.5),  # type: ignore[arg-type]
    ).report  # fmt: skip
    assert planned["recipe"]["preprocessing"]["preset"] == "minus-one-one"
    assert planned["recipe"]["preprocessing"]["mean"] == [0.5]
    assert "data={'image': ...}" in planned["command"]
