"""The documentation tells the truth: its snippets run, its commands and errors exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from onnx_unipts.cli import main
from onnx_unipts.graph.registry import Registry
from onnx_unipts.recipe import Recipe, load_recipe, parse_settings

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("*.md"))
# What snippets for other environments import.
FRAMEWORKS = ("torch", "tensorflow", "tf2onnx", "olive")


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of code in ``language``, indented ones too, but included files."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}[^\n]*\n(.*?)^\1```$", text, re.M | re.S)
    code = [re.sub(rf"^{indent}", "", body, flags=re.M) for indent, body in found]
    return [body for body in code if "--8<--" not in body]


def snippets() -> Iterator[object]:
    for page in PAGES:
        for number, code in enumerate(blocks(page, "python"), 1):
            yield pytest.param(code, id=f"{page.stem}-{number}")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the arguments of every call of the tool."""
    for page in (*PAGES, REPOSITORY / "CONTRIBUTING.md"):
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(re.split(r" >>? ", line)[0])
                if words and Path(words[0]).name == "onnx-unipts":
                    yield words[1], words[2:]


def registries() -> Iterator[tuple[Registry, str]]:
    """Yield each registry of plugins that the documentation lists, and its folder."""
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    for path, folder in re.findall(r"^\| \[.*\| `([\w.]+)` \| `([\w/]+)/` \|$", text, re.M):
        module, _, name = path.rpartition(".")
        yield getattr(importlib.import_module(module), name), folder


@pytest.fixture
def plugins_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after a test what it registers."""
    for registry, _ in registries():
        monkeypatch.setattr(registry, "_plugins", {name: registry[name] for name in registry})


@pytest.mark.usefixtures("plugins_of_its_own")
@pytest.mark.parametrize("code", [*snippets()])
def test_a_snippet_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compile(code, "snippet", "exec")
    for framework in FRAMEWORKS:
        if re.search(rf"^import {framework}\b", code, re.M):
            pytest.importorskip(framework)
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    (tmp_path / "snippet.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("snippet.py")


def test_every_command_is_one_that_the_program_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    called = list(commands())
    assert {name for name, _ in called} == set(main.commands) - {"evaluate"}
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    for name in ("model.onnx", "model.sparse.onnx"):
        (tmp_path / name).touch()
    for name in ("model.sparse.run", "first.run", "second.run", "third.run"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    group = click.Context(main, **main.context_settings)
    for name, arguments in called:
        main.commands[name].make_context(name, arguments, parent=group)


def test_every_option_and_setting_that_is_named_exists():
    options = {
        name
        for command in main.commands.values()
        for parameter in command.params
        for name in parameter.opts
    } | {"-h", "--help", "--version"}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`(--[a-z-]+)", text))
    assert len(named) > 15
    assert named <= options
    recipe = load_recipe("unipts")
    for assignment in re.findall(r"--set (\S+=\S+?)[`\s]", text):
        recipe.with_settings(parse_settings([assignment]))
    for key in re.findall(r"\*\*`(?:training|allocation)\.(\w+): \w+`\*\*", text):
        assert key in type(recipe.training).model_fields


def test_the_table_of_settings_has_the_defaults_of_a_run_and_what_is_allowed():
    table = runpy.run_path(str(DOCS / "hooks" / "generated.py"))["settings"]()
    rows = {line.split(" | ")[0].strip("| `"): line for line in table.splitlines()[2:]}
    for setting, default, allowed in (
        ("training.learning_rate", "0.02", "a number above 0 and at most 10"),
        ("training.cosine_power", "0.5", "a number above 0 and at most 10"),
        ("training.momentum", "0.8", "a number at least 0 and below 1"),
        ("training.adaptation_rate", "0.008", "a number above 0 and at most 1"),
        ("training.losses", "{}", "a mapping with one of kl, mse for each key"),
        ("include", "[]", "a list of optional, quantised, recurrent"),
    ):
        assert rows[setting].startswith(f"| `{setting}` | `{default}` | {allowed} |")
    assert "Undefined" not in table


def test_what_a_recipe_without_a_base_has_instead_of_the_default_is_told():
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    (told,) = re.findall(r"^Without `base:`.*$", text, re.M)
    pairs = re.findall(r"`training\.(\w+)`(?: is then)? ([\d.]+) instead of ([\d.]+\d)", told)
    ours, theirs = load_recipe("unipts").model_dump(), Recipe().model_dump()
    assert {name: (float(own), float(default)) for name, own, default in pairs} == {
        name: (theirs["training"][name], value)
        for name, value in ours["training"].items()
        if theirs["training"][name] != value
    }
    for key in set(ours) - {"name", "description", "training"}:
        assert ours[key] == theirs[key]


def test_every_kind_of_plugin_is_listed_with_its_registry_and_folder():
    listed = set()
    for registry, folder in registries():
        assert registry._package.removeprefix("onnx_unipts.").replace(".", "/") in folder
        assert (REPOSITORY / folder).is_dir()
        listed.add(registry.kind)
    sources = [*REPOSITORY.glob("onnx_unipts/**/*.py"), *REPOSITORY.glob("graph/**/*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    # A search is an allocator, too.
    assert listed == set(re.findall(r'= Registry\("([\w ]+)"', code)) - {"search"}


def test_recipes_in_the_pages_can_be_read(tmp_path: Path):
    found = [block for page in PAGES for block in blocks(page, "yaml")]
    assert found
    for block in found:
        (tmp_path / "recipe.yaml").write_text(block, encoding="utf-8")
        load_recipe(tmp_path / "recipe.yaml")


def test_every_error_that_is_explained_is_raised_somewhere():
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    titles = re.findall(r"^### (.+)$", text, re.M)
    assert len(titles) > 20
    sources = [*REPOSITORY.glob("onnx_unipts/**/*.py"), *REPOSITORY.glob("graph/**/*.py")]
    # Adjacent literals of one message are joined, as Python does.
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    assert [title for title in titles if title not in code] == []


def test_links_between_pages_lead_somewhere():
    for page in (*PAGES, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"):
        for target in re.findall(
            r"\]\((?!https?:)([^)#]+)", re.sub(r"`[^`\n]*`", "", page.read_text("utf-8"))
        ):
            assert (page.parent / target).exists(), (page.name, target)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{citation["version"]}"' in project
    assert f'license = "{citation["license"]}"' in project


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material")),
    reason="mkdocs-material is not installed",
)
def test_the_site_builds_without_a_warning(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path / "site"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "commands" / "index.html").read_text(encoding="utf-8")
    for name, command in main.commands.items():
        assert f"Usage: onnx-unipts {name}" in page
        options = [p for p in command.params if isinstance(p, click.Option)]
        assert all(option.opts[-1] in page for option in options)
    settings = (tmp_path / "site" / "recipes" / "index.html").read_text(encoding="utf-8")
    assert "training.temperature" in settings
    assert "fonts.googleapis.com" not in page
