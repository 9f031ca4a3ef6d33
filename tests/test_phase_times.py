"""How long phases took, in all sessions of a run."""

from __future__ import annotations

import pytest

from onnx_unipts import phase_times
from onnx_unipts.phase_times import PhaseTimes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(phase_times.time, "monotonic", lambda: now[0])
    return now


def test_sessions_add_up_and_what_ended_counts_no_further(clock: list[float]):
    first = PhaseTimes([])
    first.begin("total")
    first.begin("search")
    clock[0] += 5
    assert first.end("search") == 5
    first.begin("training")
    clock[0] += 2
    entries = [first.entry()]
    clock[0] += 1
    entries.append(first.entry())
    assert entries[-1]["seconds"] == {"total": 8, "search": 5, "training": 3}

    clock[0] = 7.0  # another machine
    second = PhaseTimes(entries)
    second.begin("total")
    second.begin("training")
    clock[0] += 4
    assert second.end("training") == 7
    clock[0] += 1
    assert (second.seconds("search"), second.seconds("total")) == (5, 13)
    third = PhaseTimes([*entries, second.entry()])
    assert (third.seconds("training"), third.seconds("total")) == (7, 13)
