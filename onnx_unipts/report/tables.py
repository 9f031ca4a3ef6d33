"""Tables on the terminal: how they look and how wide they are."""

from __future__ import annotations

from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

__all__ = ["cells", "console_on", "pairs", "show", "table_of"]

NARROWEST = 80


def console_on(stream: TextIO | None) -> Console:
    """Return the console of ``stream``, standard output if that is None."""
    return Console(file=stream, highlight=False)


def show(console: Console, table: Table | None) -> None:
    """Print ``table``; where no terminal sets the width, as wide as it needs, so lines stay whole.

    A table without rows is left out.
    """
    if table is None or not table.row_count:
        return
    if not console.is_terminal:
        unbounded = console.options.update(width=10_000, max_width=10_000)
        console.width = max(NARROWEST, console.measure(table, options=unbounded).maximum)
    console.print(table)
    console.print()


def table_of(*titles: str) -> Table:
    """Make a table; a title that ends in ``>`` has its column aligned to the right."""
    columns = [
        Column(
            title.removesuffix(">"),
            justify="right" if title.endswith(">") else "left",
            overflow="fold",
            no_wrap=title.endswith(">"),
        )
        for title in titles
    ]
    return Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def pairs() -> Table:
    """Make a table of names and what is said of each."""
    return Table(
        Column(style="bold", no_wrap=True),
        Column(overflow="fold"),
        box=None,
        show_header=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )


def cells(*texts: str) -> list[Text]:
    """Names may hold square brackets, which are markup in plain strings."""
    return [Text(text) for text in texts]
