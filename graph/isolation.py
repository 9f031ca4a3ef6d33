"""Running what may crash in a process of its own: some graphs end the process of who runs them."""

from __future__ import annotations

import ctypes
import itertools
import logging
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import IO, Any, ParamSpec, TypeVar

from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError, UsageError
from onnx_unipts.graph.reason import reason_of

__all__ = ["begin_child", "cause_of_death", "isolated"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT_SECONDS = 1800.0
LAST_BREATH_SECONDS = 5
# What a process that is no longer needed has to remove its files.
FAREWELL_SECONDS = 1.0
# Of Linux: the signal that a process gets when the one that started it ends (sys/prctl.h).
PR_SET_PDEATHSIG = 1
# Of arrays in memory, in bytes: what the runtime and vector instructions like best.
ALIGNMENT = 64


def isolated(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``function`` returns, computed in a forked process.

    Arguments are inherited; the result is pickled, but for its arrays, which are mapped into this
    process. Where processes cannot be forked (Windows, macOS with its system libraries) the
    function runs in this one.

    Raises the function's own error if it is an `OnnxUniptsError`, an `OnnxUniptsError` for one of
    the operating system, such as a full disk; `UnsupportedModelError` in its place for any other,
    and where the process is ended by a signal or does not end in half an hour.
    """
    if sys.platform != "linux":
        return _translated(function, *args, **kwargs)
    if multiprocessing.current_process().daemon:
        raise UsageError(
            "a daemonic process, such as multiprocessing.Pool starts, cannot start the helpers "
            "of a run; use concurrent.futures.ProcessPoolExecutor"
        )
    try:
        with _shared_file() as shared:
            result, error = _answered(shared.fileno(), function, args, kwargs)
    except OSError as refused:
        raise _of_the_system(refused) from refused
    if error is not None:
        raise error
    answer: T = result
    return answer


def _shared_file() -> IO[bytes]:
    """Return a file without a name, in memory where Python was built for that."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("answer"), "w+b")
    return tempfile.TemporaryFile()


def _answered(
    shared: int, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> tuple[Any, OnnxUniptsError | None]:
    """Return result and error of ``function``, whose arrays lie in the file ``shared``."""
    context: Any = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    asked = (os.getpid(), receiver, sender, shared, function, args, kwargs)
    process = context.Process(target=_answer, args=asked, daemon=False)
    try:
        process.start()
        sender.close()
        if not receiver.poll(TIMEOUT_SECONDS):
            raise UnsupportedModelError(f"it did not end within {TIMEOUT_SECONDS:g} seconds")
        pickled, sizes = receiver.recv()
    except EOFError:
        process.join(LAST_BREATH_SECONDS)
        raise UnsupportedModelError(cause_of_death(process.exitcode)) from None
    except BaseException:
        if process.is_alive():
            process.terminate()
            process.join(FAREWELL_SECONDS)
        raise
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
        receiver.close()
        sender.close()
    answer: tuple[Any, OnnxUniptsError | None] = pickle.loads(
        pickled, buffers=_mapped(shared, sizes)
    )
    return answer


def cause_of_death(code: int | None) -> str:
    """Say how a process with the exit code ``code`` ended."""
    if code is not None and code < 0:
        return f"a kernel ended its process by {signal.Signals(-code).name}"
    return f"its process ended with code {code}"


def begin_child(parent: int, receiver: Connection) -> None:
    """Prepare this process, which the one with the number ``parent`` started for an answer.

    It ends when that does, however that ends: nobody waits for the answer then, and what both hold
    open (the lock of a run directory) must be free. Interrupts are the parent's to answer.
    ``receiver`` is the parent's end of the pipe.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    receiver.close()  # or sending would wait for ever where the parent has gone
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> None:
    """End with what there is to clean up, which a second signal must not break off."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def _mapped(shared: int, sizes: Sequence[int]) -> list[memoryview]:
    """Return the buffers of so many bytes that lie one behind the other in ``shared``, as copies.

    Pages are copied where they are written to. All end with the last one.
    """
    starts = [0, *itertools.accumulate(map(_aligned, sizes))]
    if not starts[-1]:
        return [memoryview(bytearray())] * len(sizes)
    whole = memoryview(mmap.mmap(shared, starts[-1], flags=mmap.MAP_PRIVATE))
    return [whole[start : start + size] for start, size in zip(starts, sizes, strict=False)]


def _aligned(size: int) -> int:
    """Return ``size`` up to the next multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _answer(
    parent: int,
    receiver: Connection,
    sender: Connection,
    shared: int,
    function: Callable[..., Any],
    args: tuple,
    kwargs: dict[str, Any],
) -> None:
    begin_child(parent, receiver)
    try:
        message = _message(shared, (_translated(function, *args, **kwargs), None))
    except OnnxUniptsError as error:
        message = _message(shared, (None, type(error)(str(error))))
    sender.send(message)
    sender.close()


def _message(
    shared: int, answer: tuple[Any, OnnxUniptsError | None]
) -> tuple[bytes, Sequence[int]]:
    """Return ``answer`` pickled, with the bytes of each of its arrays, which go to ``shared``."""
    arrays: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(answer, protocol=5, buffer_callback=arrays.append)
    buffers = [array.raw() for array in arrays]
    for buffer in buffers:
        try:
            _write(shared, buffer)
        except OSError as error:
            raise _of_the_system(error) from error
    return pickled, [buffer.nbytes for buffer in buffers]


def _write(file: int, buffer: memoryview) -> None:
    """Write ``buffer``, of which the system takes two gigabytes at once at most, and the gap."""
    rest = buffer
    while rest:
        rest = rest[os.write(file, rest) :]
    os.write(file, bytes(_aligned(len(buffer)) - len(buffer)))


def _translated(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    except OnnxUniptsError:
        raise
    except OSError as error:
        raise _of_the_system(error) from error
    except Exception as error:
        logger.info("isolated", exc_info=True)
        raise UnsupportedModelError(f"{type(error).__name__}: {reason_of(error)}"[:500]) from error


def _of_the_system(error: OSError) -> OnnxUniptsError:
    where = f": {error.filename}" if error.filename else ""
    return OnnxUniptsError(f"{error.strerror or error}{where}; see to it, then run again")
