"""Running what may crash in a process of its own: some graphs end the process of who runs them."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError

__all__ = ["cause_of_death", "isolated"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT_SECONDS = 1800.0
LAST_BREATH_SECONDS = 5


def isolated(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``function`` returns, computed in a forked process.

    Arguments are inherited, the result is pickled. Where processes cannot be forked (Windows, macOS
    with its system libraries) the function runs in this one.

    Raises the function's own error if it is an `OnnxUniptsError`; `UnsupportedModelError` in its
    place for any other, and where the process is ended by a signal or does not end in half an hour.
    """
    if sys.platform != "linux":
        return _translated(function, *args, **kwargs)
    context: Any = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, args, kwargs), daemon=False)
    process.start()
    sender.close()
    try:
        if not receiver.poll(TIMEOUT_SECONDS):
            raise UnsupportedModelError(f"it did not end within {TIMEOUT_SECONDS:g} seconds")
        result, error = pickle.loads(receiver.recv_bytes())
    except EOFError:
        process.join(LAST_BREATH_SECONDS)
        raise UnsupportedModelError(cause_of_death(process.exitcode)) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if error is not None:
        raise error
    answer: T = result
    return answer


def cause_of_death(code: int | None) -> str:
    """Say how a process with the exit code ``code`` ended."""
    if code is not None and code < 0:
        return f"a kernel ended its process by {signal.Signals(-code).name}"
    return f"its process ended with code {code}"


def _answer(
    sender: Connection, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers an interrupt, for both
    answer: tuple[Any, OnnxUniptsError | None]
    try:
        answer = _translated(function, *args, **kwargs), None
    except OnnxUniptsError as error:
        answer = None, type(error)(str(error))
    sender.send_bytes(pickle.dumps(answer))
    sender.close()


def _translated(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    except OnnxUniptsError:
        raise
    except Exception as error:
        logger.info("isolated", exc_info=True)
        reason = str(error).strip().partition("\n")[0]
        raise UnsupportedModelError(f"{type(error).__name__}: {reason}"[:300]) from error
