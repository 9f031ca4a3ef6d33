"""The Python interface: results that show themselves, callbacks, the module as a program."""

from __future__ import annotations

import io
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

import onnx_unipts
from onnx_unipts import Epoch, Generation

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
DATA = {"data": EXAMPLE / "calibration.npz", "eval_data": EXAMPLE / "test.npz"}
SETTINGS = {
    "training.epochs": 2,
    "training.adaptation": 5,
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
