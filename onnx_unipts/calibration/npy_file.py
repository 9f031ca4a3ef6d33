"""Calibration data from an .npy file: all samples of a model's only input."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.samples import check_samples, data_from
from onnx_unipts.calibration.source import Request, Source, as_path, only_input, sources
from onnx_unipts.calibration.storage import is_large
from onnx_unipts.graph.errors import UsageError

__all__ = ["NpyFile"]

_NPY_MAGIC = b"\x93NUMPY"
_PICKLE_MAGIC = b"\x80"


@sources.register("npy")
class NpyFile(Source):
    """An .npy file with one array, for a model with one input. Pickled objects are refused."""

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        path = as_path(source)
        return path is not None and path.suffix.lower() == ".npy" and path.is_file()

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        path = Path(source)
        spec = only_input(request, f"{path} with one array")
        samples = check_samples({spec.name: _read(path)}, request.signature, str(path))
        return data_from(samples, request, str(path))


def _read(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            start = file.read(len(_NPY_MAGIC))
        if start.startswith(_PICKLE_MAGIC):
            raise UsageError(f"{path}: a pickle, which is refused; save an array with np.save")
        if start != _NPY_MAGIC:
            raise UsageError(f"{path}: not an .npy file")
        mode: Literal["r"] | None = "r" if is_large(path.stat().st_size) else None
        array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if "allow_pickle" in str(error):
            raise UsageError(
                f"{path}: holds pickled objects, which are refused; save numbers of one shape"
            ) from error
        raise UsageError(f"{path}: cannot be read ({error})") from error
    return array
