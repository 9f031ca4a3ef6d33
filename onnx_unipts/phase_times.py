"""How long the phases of a run took, in all the sessions that it was resumed in."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["PhaseTimes"]


class PhaseTimes:
    """Seconds by phase. What one session takes after its last entry in the journal is lost."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """``entries`` are those that `entry` returned in the sessions before, in their order."""
        last = {entry["session"]: entry["seconds"] for entry in entries}
        self._session = max(last, default=0) + 1
        self._earlier = list(last.values())
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def begin(self, phase: str) -> None:
        """Count the time from now on for ``phase``."""
        self._began[phase] = time.monotonic()

    def end(self, phase: str) -> float:
        """Count no further; return the seconds of ``phase`` in all sessions."""
        self._took[phase] = self._here(phase)
        return self.seconds(phase)

    def seconds(self, phase: str) -> float:
        """Return the seconds of ``phase`` in all sessions, this one included."""
        return sum(took.get(phase, 0.0) for took in self._earlier) + self._here(phase)

    def entry(self) -> dict[str, Any]:
        """Return what the journal keeps of this session."""
        return {"session": self._session, "seconds": {p: self._here(p) for p in self._began}}

    def _here(self, phase: str) -> float:
        if phase in self._took:
            return self._took[phase]
        return time.monotonic() - self._began[phase] if phase in self._began else 0.0
