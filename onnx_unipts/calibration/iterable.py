"""Calibration data from an iterable of dicts of arrays, one batch each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.samples import check_samples, data_from, join_samples
from onnx_unipts.calibration.source import Request, Source, sources
from onnx_unipts.calibration.storage import is_large
from onnx_unipts.graph.errors import UsageError

__all__ = ["IterableOfDicts", "data_from_batches"]


@sources.register("iterable")
class IterableOfDicts(Source):
    """Any iterable of dicts of arrays by input name, with a batch axis, and ``labels`` if any.

    With a number of samples asked for, it is read no further than that.
    """

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        if isinstance(source, str | os.PathLike | Mapping | np.ndarray):
            return False
        return isinstance(source, Iterable) and not hasattr(source, "get_next")

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        return data_from_batches(source, request, type(source).__name__)


def data_from_batches(batches: Iterable[Any], request: Request, origin: str) -> CalibrationData:
    """Return the data of the first batches that suffice; `UsageError` names ``origin``."""
    pieces = []
    count = size = 0
    for number, batch in enumerate(batches):
        where = f"{origin}, batch {number}"
        if not isinstance(batch, Mapping):
            raise UsageError(
                f"{where}: expected a dict of arrays by input name, found {type(batch).__name__}"
            )
        samples = check_samples(batch, request.signature, where)
        size += sum(array.nbytes for array in samples.inputs.values())
        pieces.append((where, samples.on_disk() if is_large(size) else samples))
        count += len(samples)
        if request.num_samples is not None and count >= request.num_samples:
            break
    samples = join_samples(pieces, origin).first(request.num_samples)
    return data_from(samples, request, origin)
