"""The README tells the truth: its commands, options, files and snippets exist and work."""

from __future__ import annotations

import re
import runpy
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from onnx_unipts.cli import BY_SIGNAL, main
from onnx_unipts.graph import errors
from onnx_unipts.recipe import list_recipes, load_recipe, parse_settings

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of code in ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def section(title: str) -> str:
    """Return the text under a heading, up to the next heading of any level."""
    (text,) = re.findall(rf"^#+ {title}\n(.*?)(?=^#|\Z)", README, re.M | re.S)
    return text


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its two head rows."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def options(command: click.Command) -> set[str]:
    """Return every spelling of the command's options but that of help."""
    found = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {name for parameter in found for name in parameter.opts} - {"-h", "--help"}


def invocations() -> Iterator[tuple[click.Command, list[str]]]:
    """Yield the command and the arguments of each call of the tool in the README's shell blocks."""
    for part in re.split(r"\n|&&", "".join(blocks("sh"))):
        words = shlex.split(part.partition(" > ")[0])
        if words and Path(words[0]).name == "onnx-unipts":
            yield main.commands[words[1]], words[2:]


def command_with(end: str) -> str:
    (command,) = (line for block in blocks("sh") for line in block.splitlines() if end in line)
    return command


def test_continuous_integration_ends_with_the_test_command():
    steps = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert steps[-1] == command_with("pytest")


def test_continuous_integration_is_executable():
    assert (REPOSITORY / ".ci" / "run").stat().st_mode & 0o100


def test_the_example_command_names_files_that_exist():
    files = [word for word in shlex.split(command_with("--eval-data")) if "examples/" in word]
    assert len(files) == 3
    assert all((REPOSITORY / file).is_file() for file in files)


def test_every_call_is_one_that_the_command_line_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    called = list(invocations())
    assert {command.name for command, _ in called} >= {"compress", "inspect", "evaluate"}
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    for name in ("model.onnx", "model.sparse.onnx"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    group = click.Context(main, **main.context_settings)
    for command, arguments in called:
        command.make_context(command.name, arguments, parent=group)


def test_every_setting_is_one_of_the_recipe():
    assignments = re.findall(r"--set (\S+?=[^\s`]+)", README)
    assert assignments
    load_recipe("unipts").with_settings(parse_settings(assignments))


def test_every_recipe_is_described():
    lines = re.findall(r"^- `.*$", section("Recipes"), re.M)
    named = {name for line in lines for name in re.findall(r"`([\w-]+)`(?=[:,])", line)}
    assert named == set(list_recipes())


def test_the_table_of_options_is_that_of_compress():
    known = options(main.commands["compress"])
    named = {o for row in rows("Options of `compress`") for o in re.findall(r"-[\w-]+", row[0])}
    assert known - {"--quiet", "--verbose"} == named


def test_defaults_in_the_table_are_those_of_the_recipe():
    defaults = {row[0]: row[1] for row in rows("Options of `compress`")}
    recipe = load_recipe("unipts")
    assert defaults["`--epochs`"] == str(recipe.training.epochs)
    rate, size = recipe.training.learning_rate, recipe.training.batch_size
    assert defaults["`--lr`, `--batch-size`"] == f"{rate:g}, {size}"
    assert defaults["`--seed`"] == str(recipe.seed)
    assert defaults["`--allocation`"] == f"`{recipe.allocation.method}`"
    assert defaults["`--pattern`"] == f"`{recipe.pattern}`"


def test_search_takes_the_options_that_the_table_lists_but_those_that_are_named():
    (named,) = re.findall(r"takes the same options, but not (.*), and stops before", README)
    lacking = {"--output", *re.findall(r"`(-[\w-]+)`", named)}
    assert options(main.commands["compress"]) - options(main.commands["search"]) == lacking


def test_the_table_of_exit_codes_is_complete():
    raised = {getattr(errors, name).exit_code for name in errors.__all__}
    signalled = {BY_SIGNAL + n for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    assert {int(row[0]) for row in rows("Exit codes")} == raised | signalled | {0}


def test_links_within_the_repository_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (REPOSITORY / target).exists(), target


def test_the_python_snippet_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (snippet,) = blocks("python")
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    (tmp_path / "snippet.py").write_text(snippet, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("snippet.py")
    output, accuracy = capsys.readouterr().out.split()
    assert Path(output).is_file()
    assert float(accuracy) > 0.95
    report = {row[0].strip("`") for row in rows("The run directory")}
    made = {file.name for file in Path("digits.sparse.run").iterdir() if file.name[0] != "."}
    assert {name if "checkpoint" not in name else "checkpoint-*.npz" for name in made} == report
