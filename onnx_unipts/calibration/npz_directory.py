"""Calibration data from a directory of .npz files, joined in the order of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.directory import arrays_in, content_of
from onnx_unipts.calibration.npz_file import read_npz
from onnx_unipts.calibration.samples import check_samples, data_from, join_samples
from onnx_unipts.calibration.source import Request, Source, sources

__all__ = ["NpzDirectory"]


@sources.register("npz-directory")
class NpzDirectory(Source):
    """A directory of .npz files, each with one array per input name: batches, joined by name."""

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        return content_of(source) == "arrays"

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        directory = Path(source)
        pieces = [
            (str(path), check_samples(read_npz(path), request.signature, str(path)))
            for path in arrays_in(directory)
        ]
        return data_from(join_samples(pieces, str(directory)), request, str(directory))
