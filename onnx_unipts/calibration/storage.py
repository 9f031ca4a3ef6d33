"""Room for samples: in memory while they are few, else in a temporary file mapped into memory."""

from __future__ import annotations

import math
import os
import tempfile

import numpy as np

from onnx_unipts.graph.errors import UsageError

__all__ = ["IN_MEMORY", "is_large", "on_disk", "room_for"]

# Bytes of one array up to which it is simply held in memory.
IN_MEMORY = 2**30


def room_for(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of ``shape`` and ``dtype`` to be filled, of any content.

    Beyond `IN_MEMORY` bytes it is mapped from a file in the directory for temporary files (TMPDIR),
    which has no name any more and goes away with the array: the system then keeps in memory what
    there is room for. Raises `UsageError` if that directory has not the space.
    """
    size = math.prod(shape) * dtype.itemsize
    return (
        _mapped(shape, dtype) if is_large(size) and not dtype.hasobject else np.empty(shape, dtype)
    )


def is_large(size: int) -> bool:
    """Return whether ``size`` bytes are more than is held in memory."""
    return size > IN_MEMORY


def on_disk(array: np.ndarray) -> np.ndarray:
    """Return a copy of ``array`` that is mapped from a file, as `room_for` makes them."""
    if array.dtype.hasobject or not array.size:
        return array
    copy = _mapped(array.shape, array.dtype)
    copy[...] = array
    return copy


def _mapped(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = math.prod(shape) * dtype.itemsize
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file.fileno(), size)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise UsageError(
            f"calibration data of {size / 2**30:.1f} GiB does not fit into {folder} "
            f"({error.strerror or error}); set TMPDIR to a directory with more space, or take "
            "fewer samples with --num-samples"
        ) from error


def _reserve(descriptor: int, size: int) -> None:
    """Let the file have ``size`` bytes, now: where space runs out later, the process is killed."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
