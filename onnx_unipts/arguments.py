"""Checking the arguments of the Python interface that a command line cannot get wrong."""

from __future__ import annotations

import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.training.trainer import available_cores

__all__ = ["ModelPath", "at_least", "cores_of", "model_path"]

ModelPath = str | os.PathLike[str]

# Each is a thread of every session.
MOST_JOBS = 256


def model_path(model: Any) -> Path:
    """Return ``model`` as a path. Raises `UsageError` where it is something else."""
    if isinstance(model, str | os.PathLike):
        return Path(model)
    raise UsageError(
        f"the model is a {type(model).__name__}; allowed: the path of an ONNX file, such as "
        "onnx.save writes"
    )


def cores_of(jobs: Any) -> int:
    """Return how many cores to use: ``jobs``, all of them if it is None. Raises `UsageError`."""
    there = available_cores()
    if jobs is None:
        return there
    most = max(MOST_JOBS, there)
    if at_least(1, "jobs", jobs) > most:
        raise UsageError(f"jobs is {jobs}; allowed: 1 to {most}; cores here: {there}")
    return int(jobs)


def at_least(least: float, name: str, value: Any) -> Any:
    """Return ``value``. Raises `UsageError` where it is no number, or below ``least``.

    What is at least an integer has to be one.
    """
    kind = "an integer" if isinstance(least, int) else "a number"
    number = isinstance(value, Integral if isinstance(least, int) else Real)
    if number and not isinstance(value, bool) and value >= least:
        return value
    raise UsageError(f"{name} is {value!r}; allowed: {kind} of at least {least:g}")
