"""Options that are not given: from the environment, and from the project's pyproject.toml."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

__all__ = [
    "environment_name",
    "forget_overruled",
    "from_elsewhere",
    "given_elsewhere",
    "option_name",
    "project_defaults",
]

PREFIX = "ONNX_UNIPTS_"
# Options that make no sense as a standing choice.
NEVER = ("help", "version", "sweep", "resume")
# Options that take a file as well as something else, and directories.
DATA = ("data", "eval-data")
NAMES_OR_FILES = (*DATA, "recipe", "allocation", "tokenizer")
# Options that each say how sparse.
SPARSITIES = ("sparsity", "target", "sweep")
# Where options come from, the nearest first.
SOURCES = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)


def option_name(parameter: click.Parameter) -> str:
    """Return the long name of an option without its dashes, as in pyproject.toml."""
    return max(parameter.opts, key=len).lstrip("-")


def environment_name(*names: str) -> str:
    """Return the environment variable of the option spelt ``names``."""
    return PREFIX + max(names, key=len).lstrip("-").replace("-", "_").upper()


def project_defaults(commands: Mapping[str, click.Command]) -> dict[str, dict[str, Any]]:
    """Return the defaults that the project of the working directory gives, as click wants them.

    Raises `UsageError` where its table holds something else.
    """
    from onnx_unipts.defaults import find_project, read_defaults

    try:
        project = find_project(Path.cwd())
    except FileNotFoundError:
        return {}  # the working directory is gone
    if project is None:
        return {}
    options = {name: dict(_options(command)) for name, command in commands.items()}
    values = read_defaults(project, options)
    return {
        name: {
            str(options[name][key].name): _converted(options[name][key], value, project.parent)
            for key, value in values[name].items()
        }
        for name in commands
    }


def given_elsewhere(ctx: click.Context) -> str:
    """Return the options of a command that come from elsewhere, as they would be written."""
    words: list[str] = []
    for parameter in ctx.command.params:
        value = ctx.params.get(str(parameter.name))
        if value is not None and from_elsewhere(ctx, str(parameter.name)):
            words += filter(None, _words(parameter, value))
    return shlex.join(words)


def from_elsewhere(ctx: click.Context, name: str) -> bool:
    """Whether the option ``name`` was given, but not on the command line."""
    return ctx.get_parameter_source(name) in SOURCES[1:]


def forget_overruled(ctx: click.Context) -> None:
    """Forget how sparse a standing choice says it where something nearer says it otherwise."""
    found = {
        name: SOURCES.index(source)
        for name in SPARSITIES
        if (source := ctx.get_parameter_source(name)) in SOURCES
    }
    for name, place in found.items():
        if place > min(found.values()):
            ctx.params[name] = None


def _options(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and option_name(parameter) not in NEVER:
            yield option_name(parameter), parameter


def _converted(option: click.Option, value: Any, root: Path) -> str | list[str]:
    """Return ``value`` as it would be written on the command line, which click understands."""
    if isinstance(value, Mapping):
        value = [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, list):
        value = [str(item) for item in value]
        return value if option.multiple else ",".join(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if _is_path(option):
        path, colon, function = text.partition(":")
        there = (root / path).is_file() or ((root / path).is_dir() and option_name(option) in DATA)
        if there or isinstance(option.type, click.Path):
            return f"{root / path}{colon}{function}"
    return [text] if option.multiple else text


def _is_path(option: click.Option) -> bool:
    return isinstance(option.type, click.Path) or option_name(option) in NAMES_OR_FILES


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    name = max(parameter.opts, key=len)
    if isinstance(value, bool):
        return [name] if value else [max(parameter.secondary_opts, key=len, default="")]
    if isinstance(value, Mapping):
        return [word for key, item in value.items() for word in (name, f"{key}={item}")]
    if isinstance(value, tuple) and not parameter.multiple:
        return [name, ",".join(map(str, value))]
    values = value if isinstance(value, tuple) else (value,)
    return [word for item in values for word in (name, str(item))]
