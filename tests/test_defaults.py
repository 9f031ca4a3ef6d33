"""Options that are not given: environment variables, the project's table, shell completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from onnx_unipts.cli import main
from onnx_unipts.defaults import find_project, read_defaults
from onnx_unipts.graph.errors import UsageError

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
QUICK = ["--epochs", "0", "--allocation", "lamp", "--json"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project directory with the example's files, and the working directory below it."""
    for name in ("digits.onnx", "calibration.npz"):
        (tmp_path / name).symlink_to(EXAMPLE / name)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    return tmp_path


def table(project: Path, text: str) -> Path:
    path = project / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def plan(project: Path, *arguments: str) -> dict:
    """Return the report of a dry run."""
    words = ["compress", str(project / "digits.onnx"), "--dry-run", *QUICK, *arguments]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_project_gives_defaults_from_above_the_working_directory(project: Path):
    table(
        project,
        "[tool.onnx-unipts]\ndata = 'calibration.npz'\nsparsity = 0.8\nnum_samples = 100\n"
        "[tool.onnx-unipts.compress]\nexclude = ['conv1']\nlayer-sparsity = { conv2 = 0.5 }\n"
        "set = { 'training.momentum' = 0.5 }\n",
    )
    report = plan(project)
    recipe = report["recipe"]
    assert (recipe["sparsity"], recipe["exclude"], recipe["num_samples"]) == (0.8, ["conv1"], 100)
    assert recipe["layer_sparsity"] == {"conv2": 0.5}
    assert recipe["training"]["momentum"] == 0.5
    assert report["data"]["samples"] == 100


def test_the_command_line_beats_the_environment_beats_the_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    table(project, "[tool.onnx-unipts]\nsparsity = 0.8\nseed = 1\nnum-samples = 100\n")
    monkeypatch.setenv("ONNX_UNIPTS_SEED", "2")
    monkeypatch.setenv("ONNX_UNIPTS_NUM_SAMPLES", "120")
    recipe = plan(project, "--num-samples", "140")["recipe"]
    assert (recipe["sparsity"], recipe["seed"], recipe["num_samples"]) == (0.8, 2, 140)


def test_lists_in_the_environment_are_separated_by_spaces_but_numbers_by_commas(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ONNX_UNIPTS_EXCLUDE", "conv1 conv2")
    monkeypatch.setenv("ONNX_UNIPTS_MEAN", "0.4,0.5,0.6")
    recipe = plan(project, "--sparsity=0.8", f"--data={project / 'calibration.npz'}")["recipe"]
    assert recipe["exclude"] == ["conv1", "conv2"]
    assert recipe["preprocessing"]["mean"] == [0.4, 0.5, 0.6]


def test_the_report_says_the_whole_command(project: Path, monkeypatch: pytest.MonkeyPatch):
    table(project, "[tool.onnx-unipts]\nsparsity = 0.8\nmean = [0.5]\ndata = 'calibration.npz'\n")
    monkeypatch.setenv("ONNX_UNIPTS_JOBS", "1")
    command = plan(project)["command"]
    assert "--sparsity 0.8" in command
    assert "--jobs 1" in command
    assert "--mean 0.5" in command
    assert f"--data {project / 'calibration.npz'}" in command


def test_the_command_repeats_numbers_in_full_and_what_is_off(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    table(
        project,
        "[tool.onnx-unipts]\nsparsity = 0.8\nmean = [0.123456789]\n"
        "layer-sparsity = { conv3 = 0.91234567 }\n"
        "[tool.onnx-unipts.compress]\neliminate-dead-channels = false\n",
    )
    command = plan(project)["command"]
    assert "--mean 0.123456789" in command
    assert "--layer-sparsity conv3=0.91234567" in command
    assert "--no-eliminate-dead-channels" in command


def test_recipes_and_allocations_in_files_count_from_the_table(project: Path):
    (project / "mine.yaml").write_text("base: unipts\nname: mine\n", encoding="utf-8")
    (project / "unipts").mkdir()
    table(project, "[tool.onnx-unipts]\nsparsity = 0.8\nrecipe = 'mine.yaml'\n")
    report = plan(project)
    assert report["recipe"]["name"] == "mine"
    assert f"--recipe {project / 'mine.yaml'}" in report["command"]
    table(project, "[tool.onnx-unipts]\nsparsity = 0.8\nrecipe = 'unipts'\n")
    assert plan(project)["recipe"]["name"] == "unipts"  # a directory is no recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.onnx-unipts]\nsparsty = 0.8", "has no key sparsty; known are allocation,"),
        ("[tool.onnx-unipts.search]\neval-data = 'x'", "search] has no key eval-data"),
        ("[tool]\nonnx-unipts = 3", "is no table"),
        ("[tool.onnx-unipts]\ncompress = 3", "compress] is no table"),
        ("[tool", "cannot be read"),
    ],
)
def test_a_table_that_says_nothing_known_is_refused(project: Path, text: str, message: str):
    path = table(project, text)
    result = CliRunner().invoke(main, ["recipes"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert message in line
    assert str(path) in line


def test_a_project_without_the_table_gives_nothing(project: Path):
    table(project, "[project]\nname = 'x'\n")
    assert CliRunner().invoke(main, ["recipes"]).exit_code == 0
    assert read_defaults(project / "pyproject.toml", {"a": {"b": 1}}) == {"a": {}}


def test_the_nearest_project_counts(project: Path):
    below = project / "below" / "pyproject.toml"
    table(project, "")
    assert find_project(Path.cwd()) == project / "pyproject.toml"
    below.write_text("", encoding="utf-8")
    assert find_project(Path.cwd()) == below
    below.write_text("[tool.onnx-unipts]\nc = 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no key c"):
        read_defaults(below, {"a": {"b": 1}})


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_script(shell: str):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_ONNX_UNIPTS_COMPLETE" in result.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [("compress --layer", "--layer-sparsity"), ("compress --format pa", "packed")],
)
def test_commands_and_options_and_names_of_plugins_are_completed(words: str, completed: str):
    environment = {**os.environ, "_ONNX_UNIPTS_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", "from onnx_unipts.cli import main; main(prog_name='onnx-unipts')"],
        env={
            **environment,
            "COMP_WORDS": f"onnx-unipts {words}",
            "COMP_CWORD": str(len(words.split())),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [f"plain,{completed}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epochs = 1.9", "'--epochs': '1.9' is not a valid integer"),
        ("batch-size = 1979-05-27", "'--batch-size': '1979-05-27' is not a valid integer"),
        ("quiet = 'perhaps'", "'--quiet': 'perhaps' is not a valid boolean"),
    ],
)
def test_values_of_another_kind_are_refused_as_on_the_command_line(
    project: Path, text: str, told: str
):
    table(project, f"[tool.onnx-unipts]\n{text}\n")
    words = ["compress", str(project / "digits.onnx"), "--sparsity", "0.9", "--dry-run"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_numbers_and_truths_of_the_table_are_understood(project: Path):
    text = "data = 'calibration.npz'\nquiet = 1\nrun-dir = 3\neliminate-dead-channels = false\n"
    table(project, f"[tool.onnx-unipts]\nsparsity = 0.5\n[tool.onnx-unipts.compress]\n{text}")
    report = plan(project)
    assert report["recipe"]["eliminate_dead_channels"] is False
    assert f"--run-dir {project / '3'}" in report["command"]


@pytest.mark.skipif(sys.platform == "win32", reason="a directory in use stays there")
def test_a_working_directory_that_is_gone_has_no_project(project: Path):
    (project / "below").rmdir()
    assert CliRunner().invoke(main, ["inspect", str(project / "digits.onnx")]).exit_code == 0


def said(defaults: dict[str, str], *given: str) -> set[str]:
    """Return which of the options that say how sparse count beside ``defaults`` of a project."""
    words = [str(EXAMPLE / "digits.onnx"), *given]
    context = main.commands["compress"].make_context("compress", words, default_map=defaults)
    return {name for name in ("sparsity", "target", "sweep") if context.params[name] is not None}


@pytest.mark.parametrize("option", [("--sweep", "0.5"), ("--target", "drop=1%")])
def test_how_sparse_is_what_the_nearest_says(
    option: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    name = option[0].lstrip("-")
    assert said({"sparsity": "0.8", "target": "size=1MB"}, *option) == {name}
    monkeypatch.setenv(f"ONNX_UNIPTS_{name.upper()}", option[1])
    assert said({"sparsity": "0.8"}) == {name}
    assert said({}, "--sparsity", "0.5") == {"sparsity"}
    # Said in one place, they are said together.
    assert said({}, *option, "--sparsity", "0.5") == {name, "sparsity"}


def test_a_sparsity_on_the_command_line_is_no_target_of_the_project(project: Path):
    table(project, "[tool.onnx-unipts.compress]\ntarget = 'drop=1%'\ndata = 'calibration.npz'\n")
    report = plan(project, "--sparsity", "0.5")
    assert report["recipe"]["sparsity"] == 0.5
    assert "--target" not in report["command"]


def test_an_allocator_of_the_project_is_no_file_to_finetune_at(project: Path):
    table(project, "[tool.onnx-unipts]\ndata = 'calibration.npz'\nallocation = 'lamp'\n")
    model = str(project / "digits.onnx")
    assert CliRunner().invoke(main, ["search", model, "--sparsity", "0.8", "-q"]).exit_code == 0
    words = ["finetune", model, "--dry-run", "--json", "--epochs", "0"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.stderr
    assert "lamp" not in json.loads(done.stdout)["command"]
    done = CliRunner().invoke(main, [*words, "--allocation", "lamp"])
    assert done.exit_code == 2
    assert "lamp: no such file" in done.stderr
