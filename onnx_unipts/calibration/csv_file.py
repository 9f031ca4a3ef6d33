"""Calibration data from a CSV file, for tabular models: one line per sample."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.image_labels import is_label, is_number
from onnx_unipts.calibration.samples import LABELS, check_samples, data_from
from onnx_unipts.calibration.signature import InputSpec
from onnx_unipts.calibration.source import Request, Source, as_path, sources
from onnx_unipts.graph.errors import UsageError

__all__ = ["CsvFile"]

_LABEL_NAMES = ("label", "labels", "class", "target")
_DELIMITERS = ",;\t"


@sources.register("csv")
class CsvFile(Source):
    """A .csv or .tsv file with one sample per line, with or without a header.

    For a model with one input of shape (N, columns) the columns are fed in their order; for a model
    with one input per column, of shape (N) or (N, 1), by their names in the header. A column called
    label, labels, class or target with whole numbers holds the labels, unless the model has an
    input of that name. Separated by commas, semicolons or tabs.
    """

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        path = as_path(source)
        return path is not None and path.suffix.lower() in (".csv", ".tsv") and path.is_file()

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        path = Path(source)
        header, rows = _read(path)
        arrays = _arrays(header, rows, request.signature, path)
        return data_from(
            check_samples(arrays, request.signature, str(path)), request, f"lines of {path}"
        )


def _read(path: Path) -> tuple[list[str] | None, list[tuple[int, list[str]]]]:
    """Return the header, None without one, and the other lines with their numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(_DELIMITERS, key=first.count)
            reader = csv.reader(file, delimiter=delimiter)
            rows = [
                (reader.line_num, [cell.strip() for cell in row])
                for row in reader
                if any(cell.strip() for cell in row)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    if not rows:
        raise UsageError(f"{path}: holds no lines")
    header = None if any(map(is_number, rows[0][1])) else rows[0][1]
    rows = rows if header is None else rows[1:]
    if not rows:
        raise UsageError(f"{path}: holds a header and no lines")
    width = len(rows[0][1] if header is None else header)
    for number, row in rows:
        if len(row) != width:
            raise UsageError(
                f"{path}: line {number} has {len(row)} columns, expected {width} as at the top"
            )
    return header, rows


def _arrays(
    header: list[str] | None,
    rows: list[tuple[int, list[str]]],
    signature: Sequence[InputSpec],
    path: Path,
) -> dict[str, np.ndarray]:
    names = header or [f"column {at}" for at in range(1, len(rows[0][1]) + 1)]
    columns = list(range(len(names)))
    inputs = [spec.name for spec in signature]
    arrays: dict[str, np.ndarray] = {}
    labels = [at for at in columns if names[at].lower() in _LABEL_NAMES and names[at] not in inputs]
    if len(labels) > 1:
        raise UsageError(
            f"{path}: {' and '.join(names[at] for at in labels)} could both hold the labels; leave "
            "out or rename all but one"
        )
    for label in labels:
        columns.remove(label)
        arrays[LABELS] = _whole_numbers(names[label], label, rows, path)
    width = signature[0].shape[1] if len(signature[0].shape) == 2 else None
    by_order = inputs[0] not in names or (isinstance(width, int) and width > 1)
    if len(signature) == 1 and len(signature[0].shape) == 2 and by_order:
        return arrays | {inputs[0]: _matrix(signature[0], columns, names, rows, path)}
    missing = [name for name in inputs if name not in names]
    if missing:
        raise UsageError(
            f"{path}: no column for the model's inputs {', '.join(missing)}; its columns are "
            f"{', '.join(names)}" + ("" if header else " (there is no header)")
        )
    for spec in signature:
        column = _matrix(spec, [names.index(spec.name)], names, rows, path)
        arrays[spec.name] = column if len(spec.shape) == 2 else column[:, 0]
    return arrays


def _matrix(
    spec: InputSpec,
    columns: Sequence[int],
    names: Sequence[str],
    rows: Sequence[tuple[int, list[str]]],
    path: Path,
) -> np.ndarray:
    """Return the cells of ``columns`` in the dtype of ``spec``, (samples, columns)."""
    width = spec.shape[1] if len(spec.shape) == 2 else 1
    if isinstance(width, int) and width != len(columns):
        raise UsageError(
            f"{path}: {len(columns)} columns to feed, but the model's input {spec} takes {width}; "
            f"the columns are {', '.join(names[at] for at in columns)}"
        )
    cells = [[row[at] for at in columns] for _, row in rows]
    if spec.dtype.kind == "O":
        return np.array(cells, object)
    dtype = np.float64 if spec.dtype.kind == "f" else np.int64
    try:
        return np.array(cells, dtype).astype(spec.dtype if spec.dtype.kind == "f" else dtype)
    except (ValueError, OverflowError):
        pass
    kind = "number" if dtype is np.float64 else "whole number"
    for number, row in rows:
        for at in columns:
            try:
                dtype(row[at])
            except (ValueError, OverflowError):
                raise UsageError(
                    f"{path}: line {number}, {names[at]}: {row[at]!r} is not a {kind}; the model's "
                    f"input {spec} takes only such: fill gaps and encode categories as in training"
                ) from None
    raise AssertionError("some cell is not a number")


def _whole_numbers(
    name: str, column: int, rows: Sequence[tuple[int, list[str]]], path: Path
) -> np.ndarray:
    for number, row in rows:
        if not is_label(row[column]):
            raise UsageError(
                f"{path}: line {number}, {name}: {row[column]!r} is not the number of a class; "
                "number the classes as the model does, or leave the column out"
            )
    return np.array([int(row[column]) for _, row in rows], np.int64)
