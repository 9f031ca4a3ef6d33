"""Calibration data from an .npz file: one array per input name, and labels if there are any."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.samples import check_samples, data_from
from onnx_unipts.calibration.source import Request, Source, as_path, sources
from onnx_unipts.graph.errors import UsageError

__all__ = ["NpzFile", "read_npz"]


@sources.register("npz")
class NpzFile(Source):
    """An .npz file with one array per input name, and ``labels`` if any. Pickles are refused."""

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        path = as_path(source)
        return path is not None and path.suffix.lower() == ".npz" and path.is_file()

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        path = Path(source)
        samples = check_samples(read_npz(path), request.signature, str(path))
        return data_from(samples, request, str(path))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays in the file by name; `UsageError` if it is damaged or holds pickles."""
    name = ""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise UsageError(f"{path}: not an .npz file, or a truncated one")
        arrays = {}
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        member = f"array {name!r} " if name else ""
        if "allow_pickle" in str(error):
            raise UsageError(
                f"{path}: {member}holds pickled objects, which are refused; save numbers of one "
                "shape"
            ) from error
        raise UsageError(f"{path}: {member}cannot be read ({error})") from error
    return arrays
