"""Calibration data from an iterable of dicts of arrays, one batch each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.samples import Samples, check_samples, data_from, join_samples
from onnx_unipts.calibration.source import Request, Source, sources
from onnx_unipts.calibration.storage import is_large
from onnx_unipts.graph.errors import UsageError

__all__ = ["IterableOfDicts", "data_from_batches", "rereadable"]


# Bytes of batches that go to one file: every file stays open.
TOGETHER = 1 << 28


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
        origin = source.origin if isinstance(source, _Reread) else type(source).__name__
        return data_from_batches(source, request, origin)


def rereadable(source: Any) -> Any:
    """Return ``source``, or where it can be read only once, what can be read again and again."""
    origin = type(source).__name__
    if callable(getattr(source, "get_next", None)):
        return _Reread(iter(source.get_next, None), origin)
    return _Reread(source, origin) if isinstance(source, Iterator) else source


class _Reread:
    """What an iterator yields, as far as it was ever asked for; all of it stays in memory."""

    def __init__(self, batches: Iterator[Any], origin: str) -> None:
        self.origin = origin
        self._batches = batches
        self._read: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        for number in count():
            if number == len(self._read):
                try:
                    self._read.append(next(self._batches))
                except StopIteration:
                    return
            yield self._read[number]


def data_from_batches(batches: Iterable[Any], request: Request, origin: str) -> CalibrationData:
    """Return the data of the first batches that suffice; `UsageError` names ``origin``."""
    pieces: list[tuple[str, Samples]] = []
    waiting: list[tuple[str, Samples]] = []
    found = size = held = 0
    for number, batch in enumerate(batches):
        where = f"{origin}, batch {number}"
        if not isinstance(batch, Mapping):
            raise UsageError(
                f"{where}: expected a dict of arrays by input name, found {type(batch).__name__}"
            )
        samples = check_samples(batch, request.signature, where)
        taken = sum(array.nbytes for array in samples.inputs.values())
        waiting.append((where, samples))
        size, held, found = size + taken, held + taken, found + len(samples)
        if is_large(size) and held > TOGETHER:
            pieces.append((waiting[0][0], join_samples(waiting, origin).on_disk()))
            waiting, held = [], 0
        if request.num_samples is not None and found >= request.num_samples:
            break
    samples = join_samples([*pieces, *waiting], origin).first(request.num_samples)
    return data_from(samples, request, origin)
