"""Progress of long phases on standard error: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

__all__ = [
    "Bars",
    "Lines",
    "Once",
    "Phase",
    "Progress",
    "Quiet",
    "make_progress",
]

LINE_INTERVAL_SECONDS = 5.0


class Phase(AbstractContextManager["Phase"], Protocol):
    """A phase under way: a context manager that counts its steps."""

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Count ``n`` steps as done and show ``fields``, e.g. ``generation=3, best=0.12``."""


class Progress(Protocol):
    """Where a run tells what it does."""

    def phase(self, name: str, total: int, completed: int = 0) -> Phase:
        """Begin a phase of ``total`` steps; ``completed`` of them were done before a resume."""

    def message(self, text: str) -> None:
        """Tell something that is good to know."""

    def warning(self, text: str) -> None:
        """Tell something that the user should look into."""


def make_progress(*, quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """Return what fits ``stream`` (standard error): bars on a terminal, else lines.

    ``quiet`` leaves only warnings.
    """
    stream = sys.stderr if stream is None else stream
    if quiet or stream is None:  # that of a process may be closed
        return Quiet(stream)
    return Bars(stream) if stream.isatty() else Lines(stream)


class Quiet:
    """Shows warnings only, and without a ``stream`` nothing at all."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def phase(self, name: str, total: int, completed: int = 0) -> Phase:
        """Begin a phase that nobody sees."""
        return _SilentPhase()

    def message(self, text: str) -> None:
        """Say nothing."""

    def warning(self, text: str) -> None:
        """Print ``text`` if there is a stream."""
        if self._stream is not None:
            print(f"Warning: {text}", file=self._stream, flush=True)


class Lines:
    """Prints the first and the last step of a phase, and between them a line now and then."""

    def __init__(self, stream: TextIO, interval: float = LINE_INTERVAL_SECONDS) -> None:
        """``interval`` is the least time between two lines of a phase, in seconds."""
        self._stream = stream
        self._interval = interval

    def phase(self, name: str, total: int, completed: int = 0) -> Phase:
        """Begin a phase shown as lines."""
        return _LinePhase(self.message, name, total, completed, self._interval)

    def message(self, text: str) -> None:
        """Print ``text``."""
        print(text, file=self._stream, flush=True)

    def warning(self, text: str) -> None:
        """Print ``text``."""
        self.message(f"Warning: {text}")


class Once:
    """Passes on what ``progress`` is told, but no text twice: for runs that repeat each other."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told: set[str] = set()

    def phase(self, name: str, total: int, completed: int = 0) -> Phase:
        """Begin a phase."""
        return self._progress.phase(name, total, completed)

    def message(self, text: str) -> None:
        """Tell ``text`` unless that was told."""
        if self._is_new(text):
            self._progress.message(text)

    def warning(self, text: str) -> None:
        """Tell ``text`` unless that was told."""
        if self._is_new(text):
            self._progress.warning(text)

    def _is_new(self, text: str) -> bool:
        new = text not in self._told
        self._told.add(text)
        return new


class Bars:
    """Draws one bar per phase with its time left; bars of inner phases vanish when they end."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, soft_wrap=True)
        self._bars: RichProgress | None = None
        self._open: list[_BarPhase] = []

    def phase(self, name: str, total: int, completed: int = 0) -> Phase:
        """Begin a phase shown as a bar."""
        return _BarPhase(self, name, total, completed)

    def message(self, text: str) -> None:
        """Print ``text`` above the bars."""
        self._console.print(text, markup=False, highlight=False)

    def warning(self, text: str) -> None:
        """Print ``text`` above the bars."""
        self._console.print(f"Warning: {text}", style="yellow", markup=False, highlight=False)

    def enter(self, phase: _BarPhase) -> TaskID:
        """Add the bar of ``phase``, below those of the phases it stands in."""
        if self._bars is None:
            self._bars = _new_bars(self._console)
            self._bars.start()
        self._open.append(phase)
        return self._bars.add_task(
            phase.name, total=phase.total, completed=phase.completed, fields=""
        )

    def update(self, task: TaskID, n: int, fields: str) -> None:
        """Move the bar called ``task`` by ``n`` steps."""
        if self._bars is not None:
            self._bars.update(task, advance=n, fields=fields)

    def leave(self, phase: _BarPhase, task: TaskID) -> None:
        """End the bar of ``phase``: an outermost one stays on the screen."""
        self._open.remove(phase)
        if self._bars is None:
            return
        if self._open:
            self._bars.remove_task(task)
            return
        self._bars.stop()
        self._bars = None


class _SilentPhase:
    def __enter__(self) -> _SilentPhase:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def advance(self, n: int = 1, **fields: Any) -> None:
        return None


class _LinePhase(_SilentPhase):
    def __init__(self, show: Any, name: str, total: int, completed: int, interval: float) -> None:
        self._show = show
        self._name = name
        self._total = total
        self._before = self._done = completed
        self._interval = interval
        self._began = self._shown = 0.0

    def __enter__(self) -> _LinePhase:
        self._began = time.monotonic()
        return self

    def advance(self, n: int = 1, **fields: Any) -> None:
        now = time.monotonic()
        first = self._done == self._before
        self._done += n
        if first or self._done >= self._total or now - self._shown >= self._interval:
            self._shown = now
            self._show(self._line(now - self._began, fields))

    def _line(self, elapsed: float, fields: dict[str, Any]) -> str:
        parts = [f"{self._name} {self._done}/{self._total}"]
        if fields:
            parts.append(_describe(fields))
        if self._done >= self._total:
            parts.append(f"{_duration(elapsed)} in all")
        else:
            per_step = elapsed / max(1, self._done - self._before)
            parts.append(f"{_duration(per_step * (self._total - self._done))} left")
        return ", ".join(parts)


class _BarPhase(_SilentPhase):
    def __init__(self, progress: Bars, name: str, total: int, completed: int) -> None:
        self.name = name
        self.total = total
        self.completed = completed
        self._progress = progress
        self._task: TaskID | None = None

    def __enter__(self) -> _BarPhase:
        self._task = self._progress.enter(self)
        return self

    def __exit__(self, *error: object) -> None:
        if self._task is not None:
            self._progress.leave(self, self._task)

    def advance(self, n: int = 1, **fields: Any) -> None:
        if self._task is not None:
            self._progress.update(self._task, n, _describe(fields))


def _new_bars(console: Console) -> RichProgress:
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[fields]}", style="dim", markup=False),
        console=console,
    )


def _describe(fields: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in fields.items())


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
