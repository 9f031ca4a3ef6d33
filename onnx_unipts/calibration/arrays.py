"""Calibration data from arrays in memory: a dict by input name, or one array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.samples import check_samples, data_from
from onnx_unipts.calibration.source import Request, Source, only_input, sources

__all__ = ["Arrays"]


@sources.register("arrays")
class Arrays(Source):
    """A dict of arrays by input name, with ``labels`` if any; a single array for a single input."""

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        return isinstance(source, Mapping | np.ndarray)

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        where = "calibration arrays"
        if isinstance(source, np.ndarray):
            source = {only_input(request, "one array").name: source}
        return data_from(check_samples(source, request.signature, where), request, "arrays")
