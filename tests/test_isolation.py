"""A helper process ends with who started it, and says what the system would not let it do."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_unipts.graph.errors import OnnxUniptsError
from onnx_unipts.graph.isolation import isolated

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="helpers are processes of Linux")

CHILD = """
    import os, sys, time
    from onnx_unipts.graph.isolation import isolated

    def help(task):
        print(os.getpid(), flush=True)
        time.sleep(60 if task == "works" else 0.5)
        return list(range(1 << 20))

    isolated(help, sys.argv[1])
"""


def ended(process: int) -> bool:
    """Tell whether a process is there no more, or waits only to be asked how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except OSError:
        return True


@pytest.mark.parametrize("task", ["works", "answers at length"])
def test_a_helper_ends_when_who_started_it_is_killed(task: str):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), task], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    helper = int(child.stdout.readline())
    assert not ended(helper)
    child.kill()
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 5
    try:
        while not ended(helper):
            assert time.monotonic() < deadline, "the helper is still there"
            time.sleep(0.02)
    finally:
        if not ended(helper):
            os.kill(helper, signal.SIGKILL)


def fill_a_disk() -> None:
    Path("/dev/full").write_bytes(b"x")


def answer_more_than_there_is_room_for() -> np.ndarray:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, -1))
    return np.ones(1 << 16)


@pytest.mark.parametrize(
    ("function", "number", "file"),
    [
        (lambda: Path("/nowhere/w.bin").read_bytes(), errno.ENOENT, ": /nowhere/w.bin"),
        (lambda: Path("/dev").read_bytes(), errno.EISDIR, ": /dev"),
        (fill_a_disk, errno.ENOSPC, ""),
        (answer_more_than_there_is_room_for, errno.EFBIG, ""),
    ],
    ids=["no file", "a directory", "a full disk", "a large answer"],
)
def test_what_the_system_refuses_is_no_fault_of_the_model(
    function: Callable[[], Any], number: int, file: str
):
    with pytest.raises(OnnxUniptsError) as error:
        isolated(function)
    assert type(error.value) is OnnxUniptsError
    assert str(error.value) == f"{os.strerror(number)}{file}; see to it, then run again"


def ask_for_a_process_more_than_there_may_be() -> tuple[type, str]:
    """Return the error; there is no limit for the superuser."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if not os.getuid():
        os.setuid(65534)
    try:
        isolated(len, ())
    except Exception as error:
        return type(error), str(error)
    raise AssertionError("there was a process to be had")


def test_a_process_that_is_not_to_be_had_is_an_error_of_the_system():
    kind, told = isolated(ask_for_a_process_more_than_there_may_be)
    assert kind is OnnxUniptsError
    assert told == f"{os.strerror(errno.EAGAIN)}; see to it, then run again"
