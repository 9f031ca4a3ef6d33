"""Recipes in files: those that ship with the tool, and those of the user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.hint import hint
from onnx_unipts.recipe.schema import Recipe
from onnx_unipts.recipe.validation import validated
from onnx_unipts.yaml_text import read_yaml

__all__ = ["list_recipes", "load_recipe"]


def list_recipes() -> dict[str, str]:
    """Return the description of every recipe that ships with the tool, by name."""
    return {name: load_recipe(name).description for name in _shipped()}


def load_recipe(source: str | os.PathLike[str] | Recipe) -> Recipe:
    """Read the recipe called ``source``, or the YAML file at that path; a `Recipe` is one already.

    Settings that it leaves out are those of the shipped recipe that its key ``base`` names, else
    the defaults.

    Raises `UsageError` that names the file, the key and what is allowed.
    """
    if isinstance(source, Recipe):
        return source
    if not isinstance(source, str | os.PathLike):
        raise UsageError(
            f"the recipe is a {type(source).__name__}; allowed: a name, the path of a YAML file, "
            "or a Recipe; single keys are settings"
        )
    name = os.fspath(source)
    shipped = _shipped()
    if name in shipped:
        return _parse(
            resources.files("onnx_unipts.recipes")
            .joinpath(f"{name}.yaml")
            .read_text(encoding="utf-8"),
            f"recipe {name}",
        )
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"unknown recipe {name!r}{hint(name, shipped)}: neither a file nor one of "
            f"{', '.join(shipped)}"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {name}: cannot be read ({error})") from error
    return _parse(text, f"recipe {name}")


def _shipped() -> list[str]:
    files = resources.files("onnx_unipts.recipes").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def _parse(text: str, where: str) -> Recipe:
    try:
        data = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise UsageError(f"{where}: not valid YAML{line}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected a mapping of keys to values")
    return validated(Recipe, _on_its_base(data, where), where)


def _on_its_base(data: dict[str, Any], where: str) -> dict[str, Any]:
    """Return ``data`` with what it leaves out taken from the recipe that its key ``base`` names."""
    if "base" not in data:
        return data
    base = data["base"]
    if base not in _shipped():
        raise UsageError(f"{where}: key base is {base!r}; allowed: one of {', '.join(_shipped())}")
    own = {key: value for key, value in data.items() if key != "base"}
    return _merged(load_recipe(base).model_dump(mode="json"), own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping):
            both[key] = _merged(below[key], value)
    return both
