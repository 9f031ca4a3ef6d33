"""Pages made from the program itself: every command's help, and every setting of a recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import click

DEFAULT = "unipts"
MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.M)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put in what the marks of a page ask for (the hook that mkdocs calls)."""
    return MARK.sub(lambda match: PARTS[match[1]](), markdown)


def commands() -> str:
    """Return the help of every command."""
    from onnx_unipts.cli import main

    parts = []
    group = click.Context(main, info_name="onnx-unipts", **main.context_settings)
    for name, command in main.commands.items():
        context = click.Context(
            command, parent=group, info_name=name, max_content_width=92, terminal_width=92
        )
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def settings() -> str:
    """Return the table of every setting of a recipe, with the defaults of the default recipe."""
    rows = ["| setting | default | allowed | |", "|---|---|---|---|", *_rows()]
    return "\n".join(rows)


def recipes() -> str:
    """Return the recipes that ship, with their descriptions."""
    from onnx_unipts.recipe import list_recipes

    return "\n".join(f"- `{name}`: {text}" for name, text in list_recipes().items())


def _rows() -> Iterator[str]:
    from pydantic import BaseModel

    from onnx_unipts.recipe import load_recipe

    def walk(section: BaseModel, prefix: str) -> Iterator[str]:
        for name, field in type(section).model_fields.items():
            default = getattr(section, name)
            if isinstance(default, BaseModel):
                yield from walk(default, f"{prefix}{name}.")
            elif name not in ("name", "description"):
                shown = default if isinstance(default, str) else json.dumps(default)
                yield (
                    f"| `{prefix}{name}` | `{shown}` | {_allowed(prefix + name)} "
                    f"| {field.description or ''} |"
                )

    yield from walk(load_recipe(DEFAULT), "")


def _allowed(key: str) -> str:
    """Return what an impossible value of ``key`` would be answered with."""
    from onnx_unipts.graph.errors import UsageError
    from onnx_unipts.recipe import Recipe

    try:
        Recipe().with_settings({key: object()})
    except UsageError as error:
        return str(error).rpartition("allowed: ")[2]
    except Exception:
        return ""
    return ""


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "recipes": recipes,
}
