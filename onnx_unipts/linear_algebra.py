"""numpy's linear algebra on one thread while a run lasts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

__all__ = ["on_one_thread"]

# The threads are those of the process: the first of several runs limits them, the last restores.
_lock = threading.Lock()
_limits: list[threadpool_limits] = []
_runs: list[object] = []


@contextlib.contextmanager
def on_one_thread() -> Iterator[None]:
    """Let products of matrices and the like take one thread, in the whole process.

    Several wait for one another busily. On two cores that other work shares, fitting the layers of
    the example took 107 s with two of them and 11 s with one; on idle ones, as long. What is
    computed no longer depends on how many cores there are, either.
    """
    run = object()
    with _lock:
        if not _runs:
            _limits.append(threadpool_limits(1, user_api="blas"))
        _runs.append(run)
    try:
        yield
    finally:
        with _lock:
            _runs.remove(run)
            if not _runs:
                _limits.pop().restore_original_limits()
