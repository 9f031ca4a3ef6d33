"""Numbers, sizes and durations as text, the same on the terminal and on pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "dead_channels_text",
    "goal_text",
    "latency_note",
    "measured_text",
    "number",
    "percent",
    "phases_text",
    "seconds_text",
    "shape_text",
    "size_text",
    "time_text",
]


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape such as 16x3x3x3."""
    return "x".join(str(axis) for axis in shape)


def percent(share: float | None) -> str:
    """Return a share as a percentage with two digits, nothing for None."""
    return "" if share is None else f"{100 * share:.2f} %"


def number(value: float | None) -> str:
    """Return four significant digits, nothing for None."""
    return "" if value is None else f"{value:.4g}"


def size_text(size: int) -> str:
    """Return a number of bytes in decimal units."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.2f} {unit}"
    return f"{size} B"


def measured_text(kind: str, value: float) -> str:
    """Return what a goal of ``kind`` (drop, size, zipped) measures."""
    return percent(value) if kind == "drop" else size_text(int(value))


def dead_channels_text(dead: Mapping[str, Any]) -> str:
    """Return how many channels are dead, and what became of them."""
    count = f"{dead['dead']:,} of {dead['channels']:,}"
    if not dead["removed"]:
        return f"{count}, kept; --eliminate-dead-channels makes the model smaller"
    weights = dead.get("weights", 0)
    more = f", with {weights:,} more weights that only they read" if weights else ""
    return (
        f"{count}, {dead['removed']:,} removed from {len(dead['tensors'])} tensors{more}; the "
        "outputs stay the same"
    )


def goal_text(goal: Mapping[str, Any]) -> str:
    """Return in a line what the search for a goal came to."""
    reached, limit = (measured_text(goal["kind"], goal[key]) for key in ("reached", "limit"))
    extreme = "highest" if goal["kind"] == "drop" else "lowest"
    return (
        f"sparsity {goal['sparsity']:g}, the {extreme} of {len(goal['trials'])} tried with "
        f"{goal['kind']} {reached} where {limit} was allowed"
    )


def seconds_text(seconds: float) -> str:
    """Return a duration in seconds, from two minutes on in minutes, then in hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def time_text(time: Mapping[str, Any]) -> str:
    """Return what the phases of a run took, as far as they are known."""
    return phases_text(time, ("preparation", "rehearsal", "search", "training", "total"))


def phases_text(time: Mapping[str, Any], phases: Sequence[str]) -> str:
    """Return the seconds of ``phases`` by their names; a rehearsal only where there is one."""
    spent = {phase: time.get(f"{phase}_seconds") for phase in phases}
    if not spent.get("rehearsal"):
        spent.pop("rehearsal", None)
    return ", ".join(f"{phase} {seconds_text(s)}" for phase, s in spent.items() if s is not None)


def latency_note(latency: Mapping[str, Any]) -> str:
    """Return how a latency was measured."""
    runs, samples, threads = (latency[key] for key in ("runs", "samples", "threads"))
    return (
        f"median of {runs} run{'s'[: runs > 1]} of {samples} sample{'s'[: samples > 1]} on "
        f"{threads} thread{'s'[: threads > 1]}, {latency['runtime']}; the ratio is that of runs "
        "one after the other"
    )
