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

    Links are followed, but not to a directory that one has come through.
    """
    yield from _walk(directory, (os.path.realpath(directory),))


def _walk(folder: str | Path, through: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files under ``folder``, to which one has come ``through`` these real paths."""
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not is_hidden(entry.name)]
    for entry in shown:
        if not entry.is_dir():
            yield Path(entry.path)
        elif not entry.is_symlink():
            yield from _walk(entry.path, (*through, os.path.join(through[-1], entry.name)))
        else:
            real = os.path.realpath(entry.path)
            if not any(each == real or each.startswith(real + os.sep) for each in through):
                yield from _walk(entry.path, (*through, real))
