"""The pages of a run: one file, complete, without a network, in a real browser at two widths."""

from __future__ import annotations

import copy
import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from onnx_unipts.cli import main
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.report.comparison import compare_runs, comparison_document
from onnx_unipts.report.figures import output_samples, weight_histograms
from onnx_unipts.report.html import report_page
from onnx_unipts.report.keys import missing_key
from onnx_unipts.report.plots import Line, line_plot, smoothed, ticks
from onnx_unipts.report.runs import read_report
from onnx_unipts.report.summary import report_tables
from onnx_unipts.targets import Target

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--hide-scrollbars", "--virtual-time-budget=2000"),
]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

# A page in a frame of any width tells the page around it how wide its content is. (No window of
# Chromium becomes narrower than 500 pixels.)
HOLDER = """<!doctype html><title>not loaded</title><script>
const measured = f => document.title = f.contentDocument.documentElement.scrollWidth
</script><iframe style="width:{width}px; height:900px; border:0" onload="measured(this)"
srcdoc="{page}"></iframe>"""


def call(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of the example; the second at another sparsity and without training."""
    root = tmp_path_factory.mktemp("runs")
    for name, sparsity, epochs in (("first", 0.9, 2), ("second", 0.8, 0)):
        call(
            *("compress", EXAMPLE / "digits.onnx", "-o", root / f"{name}.onnx", "-q"),
            *("--data", EXAMPLE / "calibration.npz", "--eval-data", EXAMPLE / "test.npz"),
            *("--sparsity", sparsity, "--epochs", epochs, "--set", "training.adaptation=20"),
            *("--allocation", "evolutionary", "--set", "allocation.search.generations=2"),
            *("--set", "training.reconstruction=false"),
        )
    return [root / "first.run", root / "second.run"]


def browse(page: Path, width: int, profile: Path) -> tuple[str, str]:
    """Return the DOM that Chromium makes of ``page`` and what its console says."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},900"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


class References(HTMLParser):
    """Collects what a page would load, and whether its tags match."""

    VOID = ("meta", "link", "img")

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("path", "rect")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_compress_writes_a_page_that_loads_nothing(runs: list[Path]):
    page = (runs[0] / "report.html").read_text(encoding="utf-8")
    parser = References()
    parser.feed(page)
    assert parser.open == []
    assert parser.references
    assert all(reference.startswith(("data:", "#")) for reference in parser.references)
    assert "url(" not in page
    assert "<script" not in page


def test_the_page_shows_every_part_of_the_run(runs: list[Path]):
    page = (runs[0] / "report.html").read_text(encoding="utf-8")
    report = json.loads((runs[0] / "report.json").read_text(encoding="utf-8"))
    for part in ("summary", "quality", "layers", "course", "samples", "histograms", "repeat"):
        assert f'id="{part}"' in page
    for layer in report["sparsity"]["per_layer"]:
        assert page.count(layer["name"]) >= 2
    assert f"{100 * report['accuracy']['after_recovery']:.2f} %" in page
    assert page.count('alt="sample ') >= 8
    assert "temperature: 4.0" in page
    assert report["model"]["sha256"] in page
    assert f"{report['latency']['sparse_ms']:.3g} ms" in page


def test_the_page_shows_what_every_epoch_came_to(runs: list[Path]):
    report = read_report(runs[0])
    history = report["training"]["history"]
    assert [point["epoch"] for point in history] == [0, 1, 2]
    assert history[-1]["step"] == report["training"]["steps"]
    assert history[-1]["accuracy"] == pytest.approx(report["accuracy"]["after_recovery"], abs=0.02)
    page = (runs[0] / "report.html").read_text(encoding="utf-8")
    assert "Accuracy in training" in page
    assert f"<title>step {history[1]['step']}: {100 * history[1]['accuracy']:.2f} %" in page


def test_report_rebuilds_the_page_and_prints_the_run(runs: list[Path]):
    before = (runs[0] / "report.html").read_text(encoding="utf-8")
    (runs[0] / "report.html").unlink()
    assert "conv2.weight" in call("report", runs[0])
    assert (runs[0] / "report.html").read_text(encoding="utf-8") == before
    assert json.loads(call("report", runs[0], "--json")) == read_report(runs[0])


def test_a_page_needs_no_figures_and_no_training(runs: list[Path]):
    page = report_page(read_report(runs[1]))
    assert "Search" in page
    assert 'id="histograms"' not in page
    assert "<h2>Training" not in page


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_in_a_browser_without_an_error(runs: list[Path], tmp_path: Path, width: int):
    dom, console = browse(runs[0] / "report.html", width, tmp_path / "profile")
    assert console == ""
    assert dom.count("<svg") > 20
    assert "digits.onnx at 90.00 % sparsity" in dom


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_window(runs: list[Path], tmp_path: Path, width: int):
    call("compare", *runs, "--html", tmp_path / "compare.html")
    for page in (runs[0] / "report.html", tmp_path / "compare.html"):
        text = html.escape(page.read_text(encoding="utf-8"))
        holder = tmp_path / f"holder-{page.stem}.html"
        holder.write_text(HOLDER.format(width=width, page=text), encoding="utf-8")
        dom, _ = browse(holder, 1400, tmp_path / "profile")
        (measured,) = re.findall(r"^.*?<title>(.*?)</title>", dom, re.S)
        assert width - 20 <= int(measured) <= width


@needs_chromium
def test_an_error_on_the_console_would_be_seen(runs: list[Path], tmp_path: Path):
    page = (runs[0] / "report.html").read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(page.replace("<body>", "<body><script>1</script>"), encoding="utf-8")
    assert "Content Security Policy" in browse(broken, 1280, tmp_path / "profile")[1]


def test_compare_names_what_differs(runs: list[Path], tmp_path: Path):
    document = json.loads(call("compare", *runs, "--json", "--html", tmp_path / "compare.html"))
    assert [run["name"] for run in document["runs"]] == ["first", "second"]
    assert document["settings"] == {"sparsity": [0.9, 0.8], "training.epochs": [2, 0]}
    assert document["layers"][0]["name"] == "conv1.weight"
    assert all(len(layer["sparsity"]) == 2 for layer in document["layers"])
    printed = call("compare", *runs)
    assert "90.00 %" in printed
    assert "training.epochs" in printed
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "What sparsity costs" in page
    assert all(run["command"].split()[0] in page for run in document["runs"])


def test_runs_of_the_same_name_are_told_apart(runs: list[Path], tmp_path: Path):
    shutil.copytree(runs[0], tmp_path / "again" / "first.run")
    document = compare_runs([runs[0], tmp_path / "again" / "first.run"])
    assert document["settings"] == {}
    assert len({run["name"] for run in document["runs"]}) == 2


def test_a_directory_without_a_finished_run_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"holds no report\.json"):
        read_report(tmp_path)
    (tmp_path / "fingerprint.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"has not ended.*--resume"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="is damaged"):
        read_report(tmp_path)


def test_a_report_that_lost_a_key_is_damaged_and_all_others_are_shown(
    runs: list[Path], tmp_path: Path
):
    report = read_report(runs[0])
    lost = copy.deepcopy(report)
    del lost["sparsity"]["per_layer"][1]["zeros"]
    (tmp_path / "report.json").write_text(json.dumps(lost), encoding="utf-8")
    for words in (("report", tmp_path), ("compare", runs[1], tmp_path)):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert "report.json is damaged (no sparsity.per_layer.zeros); run compress once" in line
    for path in paths_in(report):
        less = copy.deepcopy(report)
        del reached(less, path[:-1])[path[-1]]
        if not missing_key(less):
            assert list(report_tables(less))
            assert comparison_document({"a": less, "b": report})


def paths_in(document: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every key of ``document``, in lists to those of the first entry."""
    for key, value in document.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *rest) for rest in paths_in(value))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ((key, 0, *rest) for rest in paths_in(value[0]))


def reached(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def test_histograms_count_every_weight_once():
    rng = np.random.default_rng(0)
    dense = {"w": rng.standard_normal((8, 4, 3, 3)).astype(np.float32)}
    sparse = {"w": np.where(np.abs(dense["w"]) > 1, dense["w"], 0)}
    (layer,) = weight_histograms(dense, sparse)
    assert sum(layer["before"]) == 288
    assert sum(layer["after"]) + layer["zeros"] == 288
    assert layer["after"][len(layer["after"]) // 2] == 0


def test_a_layer_of_zeros_has_a_histogram():
    (layer,) = weight_histograms({"w": np.zeros((2, 2))}, {"w": np.zeros((2, 2))})
    assert (sum(layer["before"]), sum(layer["after"]), layer["zeros"]) == (4, 0, 4)


def test_samples_of_a_map_of_classes_and_of_images_are_pictures():
    rng = np.random.default_rng(0)
    images = rng.random((3, 3, 8, 8)).astype(np.float32)
    stages = {
        "dense": {"map": rng.random((3, 5, 8, 8)), "out": images},
        "after_recovery": {"map": rng.random((3, 5, 8, 8)), "out": images},
    }
    for target in (Target("map", "map", "classes", 1), Target("out", "out", "values")):
        samples = output_samples({"x": images[[0, 2]]}, [target], stages, None, [0, 2])
        assert [sample["sample"] for sample in samples] == [0, 2]
        assert all(
            s[stage]["image"].startswith("data:image/png") for s in samples for stage in stages
        )


def test_inputs_that_are_no_images_have_no_samples():
    scores = {"dense": {"y": np.eye(4)}}
    assert output_samples({"x": np.eye(4)}, [Target("y", "y", "classes")], scores, None, [0]) == []


def test_a_plot_survives_what_is_not_finite_or_all_equal():
    assert line_plot([Line("", [(0, float("nan"))])], "x", "y") is None
    flat = line_plot([Line("", [(0.0, 2.0), (1.0, 2.0)])], "x", "y")
    assert flat is not None
    assert flat.lines[0].path == "M0 50L100 50"
    assert smoothed([None, float("inf")]) == ([], [])
    raw, mean = smoothed([1.0, None, *[2.0] * 2000])
    assert len(raw) == len(mean) == 400


def test_ticks_stand_at_round_numbers():
    assert [tick.text for tick in ticks((0, 10))] == ["0", "2", "4", "6", "8", "10"]
    assert [tick.text for tick in ticks((0.905, 0.99), percent=True)][:2] == ["92 %", "94 %"]
