"""Defaults of options from a project: the table ``[tool.onnx-unipts]`` of its pyproject.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_unipts.graph.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["find_project", "read_defaults"]

PROJECT = "pyproject.toml"
TABLE = "onnx-unipts"


def find_project(start: Path) -> Path | None:
    """Return the nearest pyproject.toml in ``start`` or above it, None without one."""
    candidates = (folder / PROJECT for folder in (start, *start.parents))
    return next((path for path in candidates if path.is_file()), None)


def read_defaults(path: Path, commands: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the defaults in ``path`` by command: values by option, as the table spells them.

    ``commands`` are the known options of each command. A key of the table counts for every command
    that has such an option; a table within it, called like a command, for that one. Raises
    `UsageError` for a file that is no TOML and for an unknown key.
    """
    table = _table(path)
    known = {option for options in commands.values() for option in options}
    shared = {key: value for key, value in table.items() if key not in commands}
    found: dict[str, Any] = {}
    for key in shared:
        _require(key, known, path)
    for command, options in commands.items():
        own = table.get(command, {})
        if not isinstance(own, Mapping):
            raise UsageError(f"{path}: [tool.{TABLE}.{command}] is no table")
        for key in own:
            _require(key, options, path, f".{command}")
        values = {**{k: v for k, v in shared.items() if _plain(k) in options}, **own}
        found[command] = {_plain(key): value for key, value in values.items()}
    return found


def _table(path: Path) -> Mapping[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); mend or move it") from error
    tools = document.get("tool")
    table = tools.get(TABLE, {}) if isinstance(tools, Mapping) else {}
    if not isinstance(table, Mapping):
        raise UsageError(f"{path}: [tool.{TABLE}] is no table")
    return table


def _require(key: str, known: Any, path: Path, where: str = "") -> None:
    if _plain(key) not in known:
        raise UsageError(
            f"{path}: [tool.{TABLE}{where}] has no key {key}; known are {', '.join(sorted(known))}"
        )


def _plain(key: str) -> str:
    return key.replace("_", "-")
