"""Quantising the finished model of a run with its own calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from onnx_unipts.evaluation import batching_for
from onnx_unipts.export.qdq import Quantized, quantize
from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.dynamic_batch import Batching
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import INITIALIZERS_APART, fits_one_file, serialize
from onnx_unipts.graph.reason import reason_of
from onnx_unipts.job import Job
from onnx_unipts.student import batches_of
from onnx_unipts.training.ort import inference_session

__all__ = ["check_quantizable", "quantized"]

SAMPLES = 512
BATCH = 16
# The extremes of fewer samples than these say little about the next ones.
FEWEST_AVERAGED = 8


def check_quantizable(job: Job) -> None:
    """Quantise the dense model on a few samples, if it is to be at the end of hours of training.

    Raises `UnsupportedModelError`, with the remedy, if that does not work.
    """
    if job.storage.quantize is None:
        return
    if job.quantised:
        raise UnsupportedModelError(
            f"{job.path}: the weights to prune are integers already; leave out --quantize"
        )
    try:
        integers = quantized(job, job.dense, BATCH)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{job.path}: {error}") from error
    try:
        session = inference_session(serialize(integers.model), job.cores)
        session.run(None, next(_runs(job, _batching(job, job.dense), BATCH)))
    except Exception as error:
        raise UnsupportedModelError(
            f"{job.path}: onnxruntime cannot run the model quantised ({reason_of(error)}); "
            "leave out --quantize"
        ) from error
    defaults = [str(v.name) for v in job.dense.graph.inputs if v.is_initializer()]
    if defaults and job.dense.ir_version >= INITIALIZERS_APART:
        job.warn(f"quantised, inputs with a default are constants: {', '.join(defaults)}")


def quantized(job: Job, model: ir.Model, samples: int = SAMPLES) -> Quantized:
    """Return ``model`` quantised on up to so many ``samples`` of the calibration data."""
    batching = _batching(job, model)
    averaged = batching.size is None or batching.size >= FEWEST_AVERAGED
    return quantize(model, _runs(job, batching, samples), averaged=averaged)


def _runs(job: Job, batching: Batching, samples: int) -> Iterator[Mapping[str, np.ndarray]]:
    names = {value.name for value in job.dense.graph.inputs}
    for batch in batches_of(job.data, BATCH, samples):
        yield from batching.runs({name: batch[name] for name in batch if name in names})


def _batching(job: Job, model: ir.Model) -> Batching:
    if job.own_batching is not None or not fits_one_file(model):
        return job.own_batching or Batching()
    session = inference_session(serialize(runnable(model)), job.cores)
    return batching_for(session, job.data.batch(np.arange(1)))
