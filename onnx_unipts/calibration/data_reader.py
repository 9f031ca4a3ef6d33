"""Calibration data from onnxruntime's CalibrationDataReader, or anything with its get_next()."""

from __future__ import annotations

from typing import Any

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.iterable import data_from_batches
from onnx_unipts.calibration.source import Request, Source, sources

__all__ = ["DataReader"]


@sources.register("data-reader")
class DataReader(Source):
    """An object whose ``get_next()`` returns a dict of arrays by input name, None at the end."""

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        return callable(getattr(source, "get_next", None))

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        return data_from_batches(iter(source.get_next, None), request, type(source).__name__)
