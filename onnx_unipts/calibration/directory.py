"""What a directory of calibration data holds: arrays, recordings or images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from onnx_unipts.calibration.image_labels import is_hidden
from onnx_unipts.calibration.source import as_path

__all__ = ["IMAGE_SUFFIXES", "RECORDING_SUFFIX", "arrays_in", "content_of", "files_under"]

IMAGE_SUFFIXES = frozenset(
    (
        ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm",
        ".tga", ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
RECORDING_SUFFIX = ".wav"


def content_of(source: Any) -> Literal["arrays", "recordings", "images"] | None:
    """Return what the directory ``source`` holds, None if it is none.

    Arrays (.npz) count before all else, images before recordings; a directory of none of them is
    one of images, of which it has none.
    """
    path = as_path(source)
    if path is None or not path.is_dir():
        return None
    if arrays_in(path):
        return "arrays"
    recordings = False
    for file in files_under(path):
        suffix = file.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            return "images"
        recordings = recordings or suffix == RECORDING_SUFFIX
    return "recordings" if recordings else "images"


def arrays_in(directory: Path) -> list[Path]:
    """Return the .npz files right in ``directory``, hidden ones left out, by their names."""
    return sorted(path for path in directory.glob("*.npz") if not is_hidden(path.name))


def files_under(directory: Path) -> Iterator[Path]:
    """Yield all files under ``directory``, hidden ones left out; raises `OSError`.

    Links are followed, but not back to a directory that they lie in.
    """

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(directory, onerror=refuse, followlinks=True):
        above = {os.path.realpath(folder), *map(str, Path(os.path.realpath(folder)).parents)}
        shown = [name for name in folders if not is_hidden(name)]
        folders[:] = [n for n in shown if os.path.realpath(Path(folder, n)) not in above]
        yield from (Path(folder, name) for name in files if not is_hidden(name))
