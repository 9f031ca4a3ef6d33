"""numpy's linear algebra on one thread while a run lasts."""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits

__all__ = ["on_one_thread"]


def on_one_thread() -> AbstractContextManager[object]:
    """Return a context in which products of matrices and the like take one thread, of the process.

    Its threads wait for one another busily. On two cores that other work shares, fitting the layers
    of the example took 107 s with two of them and 11 s with one; of their own, the same. What it
    computes no longer depends on the number of cores, either.
    """
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
