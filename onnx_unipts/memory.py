"""The memory of this process and of those that it ran: its peak, and giving back what is free."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

__all__ = ["give_back", "peak_memory"]

# From malloc.h.
M_MMAP_THRESHOLD = -3
LARGE = 2**20


def give_back() -> None:
    """Return free pages of the heap to the operating system, where the C library can (glibc).

    Sessions that ended leave the heap in pieces that those of the next phase do not fit into. From
    now on blocks of a megabyte and more lie apart from the heap, so that their pages go back as
    soon as they are free. Measured on ResNet-20: 80 MB less while it trains. See malloc_trim(3)
    and mallopt(3).
    """
    gc.collect()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.mallopt(M_MMAP_THRESHOLD, LARGE)
        library.malloc_trim(0)


def peak_memory() -> int:
    """Return the largest resident size so far, in bytes, of this process or one that it ran.

    What these share with it counts as theirs, too. 0 where it is not known.
    """
    return max(_own_peak(), _largest("RUSAGE_CHILDREN"))


def _own_peak() -> int:
    # What getrusage says may be the size of the process that started this one.
    status = Path("/proc/self/status")
    if status.is_file():
        lines = (line.split() for line in status.read_text(encoding="ascii").splitlines())
        return next((int(words[1]) * 1024 for words in lines if words[0] == "VmHWM:"), 0)
    return _largest("RUSAGE_SELF")


def _largest(whose: str) -> int:
    """Return what getrusage(2) says is the largest resident size of ``whose``, 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(getattr(resource, whose)).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
