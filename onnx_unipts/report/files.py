"""What a model file is: its path, its digest, its size, and its size zipped."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["describe_file"]

CHUNK_BYTES = 1 << 20


def describe_file(
    path: str | os.PathLike[str], external: Sequence[str | os.PathLike[str]] = ()
) -> dict[str, Any]:
    """Return the path and sha256 of a model file, its ``bytes`` and its ``bytes_zipped``.

    The sizes include the files in ``external``, which hold tensors; zipped is what deflate, the
    compression of zip files and app packages, makes of each.
    """
    sha256, size, zipped = _measure(Path(path))
    for other in external:
        _, other_size, other_zipped = _measure(Path(other))
        size, zipped = size + other_size, zipped + other_zipped
    return {
        "path": os.fspath(path),
        "sha256": sha256,
        "bytes": size,
        "bytes_zipped": zipped,
    }


def _measure(path: Path) -> tuple[str, int, int]:
    digest, deflate, size, zipped = hashlib.sha256(), zlib.compressobj(), 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            zipped += len(deflate.compress(chunk))
    return digest.hexdigest(), size, zipped + len(deflate.flush())
