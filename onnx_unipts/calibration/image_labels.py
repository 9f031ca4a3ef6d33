"""The labels of images in a directory: from a table, or from the names of the subdirectories."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnx_unipts.graph.errors import UsageError

__all__ = ["is_hidden", "is_label", "is_number", "labels_of"]

_LABELS_FILE = "labels.csv"


def labels_of(directory: Path, paths: Sequence[Path]) -> tuple[np.ndarray | None, list[str]]:
    """Return the label of each path, int64 (paths,), or None, and warnings."""
    table = directory / _LABELS_FILE
    if table.is_file():
        return _labels_from_table(table, directory, paths)
    classes = [path.relative_to(directory).parts[0] for path in paths]
    nested = [len(path.relative_to(directory).parts) > 1 for path in paths]
    if not any(nested):
        return None, []
    if not all(nested):
        flat = paths[nested.index(False)]
        return None, [
            f"{directory} holds images both in subdirectories and beside them ({flat.name}): "
            "no labels are taken from it"
        ]
    # A class whose subdirectory is empty still counts, so that a subset keeps the labels.
    names = sorted(p.name for p in directory.iterdir() if p.is_dir() and not is_hidden(p.name))
    if all(name.isdecimal() for name in names):
        return np.array([int(name) for name in classes], np.int64), []
    if len(names) == 1:
        return None, [f"{directory} has a single subdirectory, {names[0]}: not taken as a class"]
    index = {name: label for label, name in enumerate(names)}
    return np.array([index[name] for name in classes], np.int64), []


def _labels_from_table(
    table: Path, directory: Path, paths: Sequence[Path]
) -> tuple[np.ndarray, list[str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table}: cannot be read ({error})") from error
    labels: dict[str, int] = {}
    for number, row in enumerate(rows):
        if len(row) != 2 or not is_label(row[1].strip()):
            if number == 0 and len(row) == 2 and not is_number(row[1]):
                continue  # a header
            raise UsageError(
                f"{table}: line {number + 1} is {','.join(row)!r}; expected file,label with a "
                "whole number as label"
            )
        name = Path(row[0].strip()).as_posix()
        if labels.setdefault(name, int(row[1])) != int(row[1]):
            raise UsageError(f"{table}: line {number + 1} gives {name} another label than before")
    found = [path.relative_to(directory).as_posix() for path in paths]
    missing = [name for name in found if name not in labels]
    if missing:
        raise UsageError(
            f"{table}: {len(missing)} of {len(found)} images have no label, the first is "
            f"{missing[0]}"
        )
    warnings = []
    if absent := sorted(labels.keys() - set(found)):
        warnings.append(f"{table} names {len(absent)} missing images, the first is {absent[0]}")
    return np.array([labels[name] for name in found], np.int64), warnings


def is_label(text: str) -> bool:
    """Return whether ``text`` is the number of a class."""
    return text.isdecimal() and len(text) < 10


def is_number(text: str) -> bool:
    """Return whether ``text`` is a number, whole or not."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_hidden(name: str) -> bool:
    """Return whether a file or directory is not the user's own data, by its name."""
    return name.startswith(".") or name in ("__MACOSX", "__pycache__")
