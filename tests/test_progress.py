"""Progress is bars on a terminal, few plain lines elsewhere, and silence on demand."""

import io
import sys

import pytest

from onnx_unipts.progress import Bars, Lines, Quiet, make_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_kind_follows_the_stream(monkeypatch: pytest.MonkeyPatch):
    assert isinstance(make_progress(stream=Terminal()), Bars)
    assert isinstance(make_progress(stream=io.StringIO()), Lines)
    assert isinstance(make_progress(stream=Terminal(), quiet=True), Quiet)
    monkeypatch.setattr(sys, "stderr", None)  # as where it is closed
    assert isinstance(make_progress(), Quiet)


def test_lines_show_the_first_and_the_last_step_with_their_fields():
    stream = io.StringIO()
    with Lines(stream).phase("search", 100) as phase:
        for i in range(100):
            phase.advance(generation=i, best_fitness=-0.123456)
    first, last = stream.getvalue().splitlines()
    assert first.startswith("search 1/100, generation 0, best fitness -0.1235, ")
    assert first.endswith(" left")
    assert last.startswith("search 100/100, generation 99, best fitness -0.1235, ")
    assert last.endswith(" in all")


def test_lines_show_every_step_of_slow_phases():
    stream = io.StringIO()
    with Lines(stream, interval=0).phase("training", 3) as phase:
        for _ in range(3):
            phase.advance()
    assert len(stream.getvalue().splitlines()) == 3


def test_a_resumed_phase_begins_where_it_was():
    stream = io.StringIO()
    with Lines(stream).phase("training", 10, completed=8) as phase:
        phase.advance()
        phase.advance()
    first, last = stream.getvalue().splitlines()
    assert first.startswith("training 9/10")
    assert last.startswith("training 10/10")


def test_quiet_shows_warnings_alone():
    stream = io.StringIO()
    progress = Quiet(stream)
    progress.message("hello")
    with progress.phase("search", 2) as phase:
        phase.advance()
    progress.warning("no data was given")
    assert stream.getvalue() == "Warning: no data was given\n"
    Quiet().warning("to nobody")


def test_bars_nest_and_survive_errors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    progress = Bars(stream)
    with progress.phase("training", 2) as outer:
        with progress.phase("epoch 1", 4) as inner:
            inner.advance(4, loss=0.5)
        outer.advance(loss=0.5)
        progress.message("half [way]")
        outer.advance(loss=0.25)
    assert "training" in stream.getvalue()
    assert "loss 0.25" in stream.getvalue()
    assert "half [way]" in stream.getvalue()
    with pytest.raises(RuntimeError), progress.phase("search", 3):
        raise RuntimeError
    with progress.phase("search", 3) as phase:
        phase.advance()
