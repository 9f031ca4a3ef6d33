"""Verifying a finished model: its signature, its zeros, its pattern, and what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnx_unipts.elimination import difference_from, tolerance
from onnx_unipts.evaluation import run_samples
from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.equivalence import relative_difference
from onnx_unipts.graph.errors import OnnxUniptsError, TargetMissedError, UnsupportedModelError
from onnx_unipts.graph.model import (
    is_ort_format,
    load_model,
    serialize,
    stored_tensors,
)
from onnx_unipts.graph.parameters import bind
from onnx_unipts.job import Job
from onnx_unipts.student import Student
from onnx_unipts.targets import expose
from onnx_unipts.training.ort import file_session, inference_session

__all__ = ["verify_file", "verify_model", "verify_outputs"]

# The written weights went through float32 arithmetic in another order than the trained ones.
OUTPUT_TOLERANCE = 1e-2
HALF_TOLERANCE = 5e-2


def verify_model(job: Job, model: ir.Model, kept: Mapping[str, int]) -> None:
    """Check the signature of ``model`` and its zeros.

    Raises `TargetMissedError` for other zeros than asked for, `OnnxUniptsError` for the signature,
    `UnsupportedModelError` for values that are not finite.
    """
    _verify_signature(job, model)
    zeros = {weight.key: weight.zero for weight in job.pruned}
    stored = stored_tensors(model)
    for key in job.keys:
        tensor = stored[key].numpy()
        if not np.isfinite(tensor.astype(np.float32, copy=False)).all():
            raise UnsupportedModelError(
                f"weight {key} would hold NaN or infinite values; is the data too large?"
            )
        if broken := job.masking.violation(key, tensor):
            raise TargetMissedError(
                f"{job.output}: weight {key} breaks the pattern {job.pattern.name}: {broken}"
            )
        stayed = int(np.count_nonzero(tensor != zeros[key]))
        if stayed != kept[key]:
            raise TargetMissedError(
                f"{job.output}: weight {key} keeps {stayed} values where {kept[key]} were to stay"
            )


def verify_file(
    job: Job,
    model: ir.Model,
    kept: Mapping[str, int],
    batch: Mapping[str, np.ndarray],
    whole: bool,
    path: Path,
) -> None:
    """Read the file at ``path`` back, count its zeros if it holds all weights ``whole``, run it."""
    if not is_ort_format(path):
        written = load_model(path)
        if whole:
            verify_model(job, written, kept)
        else:
            _verify_signature(job, written)
    session = file_session(path, job.cores)
    difference = difference_from(job, model, session, batch)
    rounded = job.storage.values != "stored" or job.storage.quantize is not None
    if difference > (HALF_TOLERANCE if rounded else tolerance(job)):
        raise OnnxUniptsError(
            f"{job.output}: an output of the written file differs by {difference:.1e} from that of "
            "the model before it was stored; this is a defect, please report it"
        )


def _verify_signature(job: Job, model: ir.Model) -> None:
    change = _changed_signature(job.dense, model)
    if change:
        raise OnnxUniptsError(f"{job.output}: {change}; this is a defect, please report it")


def _changed_signature(dense: ir.Model, sparse: ir.Model) -> str | None:
    for kind in ("inputs", "outputs"):
        before, after = (
            [
                (v.name, v.dtype, str(v.shape))
                for v in getattr(model.graph, kind)
                if not v.is_initializer()
            ]
            for model in (dense, sparse)
        )
        if before != after:
            return f"the {kind} changed from {before} to {after}"
    return None


def verify_outputs(
    job: Job,
    student: Student,
    model: ir.Model,
    final: Mapping[str, np.ndarray],
    batch: Mapping[str, np.ndarray],
) -> None:
    """Compare the outputs of ``model`` with those of the trained weights on one batch."""
    outputs = [replace(t, value=t.output) for t in student.targets if not t.inner]
    if not outputs or job.random:
        return  # none is the same value in both
    names = [target.output for target in outputs]
    trained = bind(student.model, final)
    expose(trained, outputs)
    ours, theirs = (
        run_samples(inference_session(serialize(m), job.cores), names, batch, job.own_batching)
        for m in (runnable(model), trained)
    )
    for name, our, their in zip(names, ours, theirs, strict=True):
        error = relative_difference(their, our)
        if not error <= (HALF_TOLERANCE if job.half else OUTPUT_TOLERANCE):
            raise OnnxUniptsError(
                f"{job.output}: output {name} differs from that of the trained weights by "
                f"{error:.1%}; this is a defect, please report it"
            )
