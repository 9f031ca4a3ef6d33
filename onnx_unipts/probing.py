"""Trying a model out before anything long: does it run, and at which sizes of dynamic axes?"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnx_unipts.calibration import InputSpec
from onnx_unipts.evaluation import batching_for
from onnx_unipts.graph.dynamic_batch import Batching
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.graph.model import is_ort_format, load_model, stored_tensors
from onnx_unipts.training.ort import RUNTIME_ERRORS, file_session

__all__ = ["require_running", "with_running_sizes"]

# What dynamic axes are tried at, where the first guess does not run.
SIZES = (16, 32, 64, 128, 224, 256, 512, 576, 640, 1024, 4096, 16000, 8, 4, 2, 1)
# Elements of an input from which on the activations may not fit into the memory.
TOO_LARGE = 1 << 22


def require_running(
    path: str | os.PathLike[str], batching: Batching | None, batch: Mapping[str, np.ndarray]
) -> None:
    """Raise `UnsupportedModelError` if onnxruntime cannot load and run the model on ``batch``.

    In a process of its own, so that a model that ends the process is refused as well.
    """
    try:
        isolated(_run, path, batching, batch)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"{path}: onnxruntime does not run it: {error}{_remedy(path)}"
        ) from error


def _remedy(path: str | os.PathLike[str]) -> str:
    """Return what helps a model that is not run, where that is known."""
    stored = {} if is_ort_format(path) else stored_tensors(load_model(path))
    if not any(tensor.tensor.dtype == ir.DataType.BFLOAT16 for tensor in stored.values()):
        return ""
    return "; few operators take bfloat16 on a CPU: export the model in float32"


def with_running_sizes(
    path: str | os.PathLike[str], signature: Sequence[InputSpec], guess: Mapping[str, np.ndarray]
) -> list[InputSpec]:
    """Return ``signature`` with the dynamic axes of samples fixed at sizes that the model runs at.

    As it is where nothing is dynamic, where the arrays of ``guess`` (first axis samples) run, and
    where no size does.
    """
    if all(isinstance(size, int) for spec in signature for size in spec.sample_shape):
        return list(signature)
    size = isolated(_running_size, path, signature, guess)
    return [_fixed(spec, size) for spec in signature] if size else list(signature)


def _run(
    path: str | os.PathLike[str], batching: Batching | None, batch: Mapping[str, np.ndarray]
) -> None:
    session = file_session(path)
    session.run(None, next(batching_for(session, batch, batching).runs(batch)))


def _running_size(
    path: str | os.PathLike[str], signature: Sequence[InputSpec], guess: Mapping[str, np.ndarray]
) -> int | None:
    session = file_session(path)
    for size in (None, *SIZES):
        if size and any(math.prod(_filled(spec, size)) > TOO_LARGE for spec in signature):
            continue
        batch = {
            spec.name: np.resize(guess[spec.name], _filled(spec, size))
            if size is not None
            else guess[spec.name]
            for spec in signature
        }
        try:
            session.run(None, next(batching_for(session, batch).runs(batch)))
        except RUNTIME_ERRORS:
            continue
        return size
    return None


def _filled(spec: InputSpec, size: int) -> tuple[int, ...]:
    return (1, *(axis if isinstance(axis, int) else size for axis in spec.sample_shape))


def _fixed(spec: InputSpec, size: int) -> InputSpec:
    """Fix the dynamic axes of a sample; the sample axis stays as it is."""
    _, *fixed = _filled(spec, size)
    return replace(spec, shape=(*(() if spec.whole else spec.shape[:1]), *fixed))
