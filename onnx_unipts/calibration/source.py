"""Where calibration data comes from: the registry of sources and the choice among them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.preprocessing import Preprocessing
from onnx_unipts.calibration.signature import InputSpec
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.registry import Registry

__all__ = [
    "Request",
    "Source",
    "as_path",
    "draw",
    "is_synthetic",
    "load_calibration_data",
    "only_input",
    "require_batch",
    "sources",
]


@dataclass(frozen=True)
class Request:
    """What is asked of a source: data for these inputs, so many samples (None: all there are)."""

    signature: Sequence[InputSpec]
    options: Preprocessing
    num_samples: int | None
    seed: int


SYNTHETIC = "synthetic"


class Source(ABC):
    """A kind of calibration data. Every possible source matches one kind at most."""

    @staticmethod
    @abstractmethod
    def matches(source: Any) -> bool:
        """Return whether ``source``, what the user passed as data, is of this kind."""

    @staticmethod
    @abstractmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """Read the data. Raises `UsageError` that names the file or input and the remedy."""


sources: Registry[type[Source]] = Registry("calibration source", "onnx_unipts.calibration")


def load_calibration_data(
    source: Any,
    signature: Sequence[InputSpec],
    options: Preprocessing | str | None = None,
    *,
    num_samples: int | None = None,
    seed: int = 0,
) -> CalibrationData:
    """Load the data that ``source`` stands for, checked against ``signature``.

    ``source`` is None or "synthetic" (inputs made up by the seed), the path of a file or directory
    that one of `sources` reads, ``script.py:function``, a dict of arrays by input name, an iterable
    of such dicts, or an object with ``get_next()`` as onnxruntime's
    CalibrationDataReader. ``num_samples`` of them are drawn without replacement by ``seed``; from
    an iterable, a script or a reader the first ones are taken.

    Raises `UsageError` if the source is of no known kind or does not fit the model.
    """
    if num_samples is not None and num_samples < 1:
        raise UsageError(f"--num-samples is {num_samples}; it must be at least 1")
    _check_signature(signature)
    request = Request(tuple(signature), Preprocessing.of(options), num_samples, seed)
    try:
        for kind in sources.values():
            if kind.matches(source):
                return kind.load(source, request)
        raise _unknown(source)
    except PermissionError as error:
        raise UsageError(f"data {error.filename or source}: no permission to read it") from error


def require_batch(data: CalibrationData, batch_size: int) -> None:
    """Raise `UsageError` if ``data`` does not fill one batch."""
    if len(data) >= batch_size:
        return
    raise UsageError(
        f"too few samples for one batch: found {data.description}; a batch takes "
        f"{batch_size}: give more data, or --batch-size {len(data)} or smaller"
    )


def is_synthetic(source: Any) -> bool:
    """Return whether ``source`` stands for inputs that are made up."""
    return source is None or (isinstance(source, str) and source == SYNTHETIC)


def as_path(source: Any) -> Path | None:
    """Return ``source`` as a path if it is a path or text, and not empty."""
    return Path(source) if isinstance(source, str | os.PathLike) and source != "" else None


def only_input(request: Request, what: str) -> InputSpec:
    """Return the model's only input; `UsageError` if it has several, which ``what`` cannot feed."""
    if len(request.signature) == 1:
        return request.signature[0]
    names = ", ".join(spec.name for spec in request.signature)
    raise UsageError(
        f"{what} feeds one input, but the model has {len(request.signature)} ({names}); give a "
        ".npz with one array per input, or script.py:function"
    )


def draw(count: int, request: Request) -> tuple[np.ndarray, list[str]]:
    """Return which of ``count`` samples are taken, int64 in ascending order, and any warning."""
    wanted = request.num_samples
    if wanted is None or wanted == count:
        return np.arange(count), []
    if wanted > count:
        return np.arange(count), [f"{wanted} samples were asked for, but there are only {count}"]
    rng = np.random.default_rng(request.seed)
    return np.sort(rng.choice(count, wanted, replace=False)), []


def _check_signature(signature: Sequence[InputSpec]) -> None:
    if not signature:
        raise UsageError("the model has no inputs, so that no calibration data can be fed")
    for spec in signature:
        if not spec.shape and not spec.whole:
            raise UsageError(
                f"the model's input {spec} is a scalar: it has no sample axis; make it a constant "
                "in the model"
            )


def _unknown(source: Any) -> UsageError:
    path = as_path(source)
    if source == "":
        return UsageError("data: no path given")
    if path is None:
        return UsageError(
            f"data cannot be a {type(source).__name__}; give a path, a dict of arrays, "
            "an iterable of dicts, or an object with get_next()"
        )
    if not path.exists():
        return UsageError(f"data {path}: no such file or directory")
    return UsageError(
        f"data {path}: not a kind that can be read; give a directory of images, .npy, "
        ".npz, a directory of .npz, .csv, .wav, a .txt with a tokenizer, or script.py:function"
    )
