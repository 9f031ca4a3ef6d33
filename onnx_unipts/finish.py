"""The end of a compression: mask, recalibrate, fold, write, and verify what was written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.errors import OnnxUniptsError, TargetMissedError
from onnx_unipts.graph.model import load_model, read_tensors, save_model, write_tensors
from onnx_unipts.job import Job
from onnx_unipts.patterns import magnitude_mask
from onnx_unipts.student import Student, batches_of, recalibrate, write_back
from onnx_unipts.training.ort import file_session, inference_session

__all__ = ["finish", "pruned_exactly"]

# Statistics of more samples than these change nothing that can be measured.
RECALIBRATION_SAMPLES = 4096
# The written weights went through float32 arithmetic in another order than the trained ones.
OUTPUT_TOLERANCE = 1e-2


def finish(
    job: Job, student: Student, tensors: Mapping[str, np.ndarray], kept: Mapping[str, int]
) -> None:
    """Write the sparse model of the trained ``tensors`` to the output file of ``job``.

    Raises `TargetMissedError` if the file read back has other zeros than asked for, and
    `OnnxUniptsError` if its signature or its outputs are not what they must be; no file is left
    then.
    """
    final = dict(tensors)
    for name in student.prunable:
        final[name] = pruned_exactly(final[name], kept[name])
    settings = job.recipe.training
    augment = settings.augment and settings.epochs > 0
    final |= recalibrate(
        student, final, job.data, settings.batch_size, RECALIBRATION_SAMPLES, job.cores, augment
    )
    model = job.load()
    write_back(student, model, final)
    outside = read_tensors(model, [key for key in job.keys if key not in student.prunable])
    write_tensors(model, {key: pruned_exactly(t, kept[key]) for key, t in outside.items()})
    save_model(model, job.output)
    try:
        _verify(job, student, final, kept)
    except BaseException:
        job.output.unlink(missing_ok=True)
        raise


def pruned_exactly(tensor: np.ndarray, kept: int) -> np.ndarray:
    """Return ``tensor`` with its ``kept`` largest values, none of which is zero."""
    mask = magnitude_mask(tensor, kept)
    pruned = np.where(mask, tensor, tensor.dtype.type(0))
    pruned[mask & (pruned == 0)] = np.finfo(tensor.dtype).tiny
    return pruned


def _verify(
    job: Job, student: Student, final: Mapping[str, np.ndarray], kept: Mapping[str, int]
) -> None:
    model = load_model(job.output)
    change = _changed_signature(job.dense, model)
    if change:
        raise OnnxUniptsError(f"{job.output}: {change}; this is a defect, please report it")
    for key, tensor in read_tensors(model, job.keys).items():
        stayed = int(np.count_nonzero(tensor))
        if stayed != kept[key]:
            raise TargetMissedError(
                f"{job.output}: weight {key} keeps {stayed} values where {kept[key]} were to stay"
            )
    _verify_outputs(job, student, final)


def _changed_signature(dense: ir.Model, sparse: ir.Model) -> str | None:
    for kind in ("inputs", "outputs"):
        before, after = (
            [(v.name, v.dtype, str(v.shape)) for v in getattr(model.graph, kind)]
            for model in (dense, sparse)
        )
        if before != after:
            return f"the {kind} changed from {before} to {after}"
    return None


def _verify_outputs(job: Job, student: Student, final: Mapping[str, np.ndarray]) -> None:
    """Run the written file and the trained weights on one batch."""
    written = file_session(job.output, job.cores)
    trained = inference_session(student.with_tensors(final), job.cores)
    batch = next(batches_of(job.data, job.recipe.training.batch_size))
    for target in student.targets:
        if target.value != target.output:
            continue  # the user's output is not among the student's
        (ours,) = written.run([target.output], batch)
        (theirs,) = trained.run([target.value], batch)
        error = np.abs(ours.astype(np.float64) - theirs).max() / (np.abs(theirs).max() + 1e-6)
        if not error <= OUTPUT_TOLERANCE:
            raise OnnxUniptsError(
                f"{job.output}: output {target.output} differs from that of the trained weights by "
                f"{error:.1%}; this is a defect, please report it"
            )
