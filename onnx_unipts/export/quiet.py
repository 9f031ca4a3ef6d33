"""Keeping what libraries tell their own callers out of the log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet(level: int) -> Iterator[None]:
    """Log nothing up to ``level``; all that was set up for the log holds again afterwards."""
    root = logging.getLogger()
    before, handlers, own = root.manager.disable, list(root.handlers), root.level
    logging.disable(max(level, before))
    try:
        yield
    finally:
        logging.disable(before)
        root.handlers[:] = handlers
        root.setLevel(own)
