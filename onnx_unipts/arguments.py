"""Checking the arguments of the Python interface that a command line cannot get wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from onnx_unipts.cores import available_cores
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.output_file import require_text

__all__ = [
    "ModelPath",
    "at_least",
    "check_kinds",
    "check_losses",
    "cores_of",
    "model_file",
    "model_path",
    "threads_of",
]

ModelPath = str | os.PathLike[str]

MOST_THREADS = 256
LOSSES = ("kl", "mse")
PATHS = ("allocation", "output", "prepared_by", "report", "run_dir", "save_recipe")


def model_path(model: Any) -> Path:
    """Return ``model`` as a path. Raises `UsageError` where it is something else."""
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        require_text(path, "model")
        return path
    raise UsageError(
        f"the model is a {type(model).__name__}; allowed: the path of an ONNX file, such as "
        "onnx.save writes"
    )


def model_file(model: Any) -> Path:
    """Return `model_path` of a file that can be read more than once. Raises `UsageError`."""
    path = model_path(model)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UsageError(f"{path} is no regular file, and is read more than once; give a file")
    return path


def cores_of(jobs: Any) -> int:
    """Return how many cores to use: ``jobs``, all of them if it is None. Raises `UsageError`."""
    return available_cores() if jobs is None else threads_of("jobs", jobs)


def threads_of(name: str, value: Any) -> int:
    """Return the number of threads that the argument ``name`` asks for. Raises `UsageError`."""
    there = available_cores()
    most = max(MOST_THREADS, there)
    if at_least(1, name, value) > most:
        raise UsageError(f"{name} is {value}; allowed: 1 to {most}; cores here: {there}")
    return int(value)


def check_kinds(given: Mapping[str, Any]) -> None:
    """Raise `UsageError` for an argument, by its name in ``given``, of another kind than it has."""
    for name in PATHS:
        path = given.get(name)
        if path is not None and not isinstance(path, str | os.PathLike):
            raise UsageError(f"{name} is {path!r}; allowed: a path")
    for name in ("on_generation", "on_epoch"):
        called = given.get(name)
        if called is not None and not callable(called):
            raise UsageError(f"{name} is {called!r}; allowed: a function of one argument")
    for name in ("format", "pack", "values", "quantize"):
        text = given.get(name)
        if text is not None and not isinstance(text, str):
            raise UsageError(f"{name} is {text!r}; allowed: text")
    shapes = given.get("input_shapes") or {}
    if not isinstance(shapes, Mapping) or not all(map(_is_shape, shapes.values())):
        raise UsageError(
            f"input_shapes is {shapes!r}; allowed: a dict of whole numbers by input, such as "
            "{'image': (1, 3, 224, 224)}"
        )


def check_losses(losses: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``losses`` by output. Raises `UsageError` for one that is not known."""
    for output, loss in losses.items():
        if loss not in LOSSES:
            raise UsageError(f"loss of {output!r} is {loss!r}; allowed: {', '.join(LOSSES)}")
    return losses


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(axis, Integral) and not isinstance(axis, bool) for axis in value
    )


def at_least(least: float, name: str, value: Any) -> Any:
    """Return ``value``. Raises `UsageError` where it is no number, or below ``least``.

    What is at least an integer has to be one.
    """
    kind = "an integer" if isinstance(least, int) else "a number"
    number = isinstance(value, Integral if isinstance(least, int) else Real)
    if number and not isinstance(value, bool) and value >= least:
        return value
    raise UsageError(f"{name} is {value!r}; allowed: {kind} of at least {least:g}")
