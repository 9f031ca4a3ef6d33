"""A command and an option that stand in help under headings, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from onnx_unipts.cli.defaults import environment_name, forget_overruled, given_elsewhere

__all__ = [
    "COMMAND",
    "Command",
    "Decorator",
    "Numbers",
    "PluginName",
    "Share",
    "examples",
    "option",
]

COMMAND = "onnx_unipts.command"
HEADINGS = ("Method", "Data", "Output", "Run", "Help")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Command(click.Command):
    """A command whose help shows its options under headings."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add to the command line for the report what it does not say itself."""
        rest = super().parse_args(ctx, args)
        self.forget(ctx)
        elsewhere = given_elsewhere(ctx)
        if elsewhere and COMMAND in ctx.meta:
            ctx.meta[COMMAND] += f" {elsewhere}"
        return rest

    def forget(self, ctx: click.Context) -> None:
        """Forget what was given elsewhere and does not count here."""
        forget_overruled(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section of help per heading."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                sections[getattr(parameter, "heading", HEADINGS[-1])].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Option(click.Option):
    """An option that stands under a ``heading`` of its command's help."""

    def __init__(self, *names: Any, heading: str, **settings: Any) -> None:
        spelt = [name for name in names[0] if name.startswith("-")]
        super().__init__(*names, envvar=environment_name(*spelt), **settings)
        self.heading = heading


class Numbers(click.ParamType):
    """Numbers separated by commas, e.g. ``.485,.456,.406``."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers; fail with what was expected."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as .485,.456,.406", param, ctx)


class Share(click.ParamType):
    """A share between 0 and 1, e.g. ``0.9`` or ``90%``."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share; fail with what was expected."""
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{text!r} is not a number such as 0.9 or 90%", param, ctx)
        if not 0 < share < 1:
            instead = f"; for {text} percent give {text}%" if 1 < share < 100 else ""
            self.fail(f"{text} is not between 0 and 1{instead}", param, ctx)
        return share


class PluginName(click.ParamType):
    """The name of a plugin. Which there are is asked when one is given: some may be the user's."""

    name = "name"

    def __init__(self, known: Callable[[], Iterable[str]]) -> None:
        """``known`` returns the names that there are."""
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name; fail with those that there are."""
        known = list(self._known())
        if value not in known:
            self.fail(f"{value!r} is not one of {', '.join(map(repr, known))}", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin as what is typed."""
        return [CompletionItem(name) for name in self._known() if name.startswith(incomplete)]


def option(*names: str, heading: str, **settings: Any) -> Decorator:
    """Return the decorator that adds an option under ``heading``."""
    return click.option(*names, cls=Option, heading=heading, **settings)


def examples(*pairs: tuple[str, str]) -> str:
    """Return the end of a command's help: what each example does, and its command line."""
    lines = [line for title, command in pairs for line in (f"# {title}", command, "")]
    return "\n".join(["\b", "Examples:", *(f"  {line}" if line else "" for line in lines)]).replace(
        "\n\n", "\n\n\b\n"
    )
