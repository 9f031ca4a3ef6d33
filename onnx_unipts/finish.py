"""The end of a compression: mask, recalibrate, fold, cut, write, and verify what was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnx_unipts.elimination import difference_from, tolerance, without_dead_channels
from onnx_unipts.evaluation import run_samples
from onnx_unipts.export import FORMATS, Storage, Written
from onnx_unipts.export.qdq import Quantized
from onnx_unipts.graph.channels import Elimination
from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.errors import OnnxUniptsError, TargetMissedError
from onnx_unipts.graph.model import (
    fits_one_file,
    is_ort_format,
    load_model,
    read_tensors,
    save_model,
    serialize,
    stored_tensors,
    write_tensors,
)
from onnx_unipts.graph.parameters import bind
from onnx_unipts.job import Job
from onnx_unipts.quantization import quantized
from onnx_unipts.student import Student, batches_of, recalibrate, write_back
from onnx_unipts.targets import expose
from onnx_unipts.training.ort import file_session, inference_session

__all__ = ["Finished", "finish", "finish_untrained", "finished", "pruned_exactly"]

# Statistics of more samples than these change nothing that can be measured.
RECALIBRATION_SAMPLES = 4096
# The written weights went through float32 arithmetic in another order than the trained ones.
OUTPUT_TOLERANCE = 1e-2
HALF_TOLERANCE = 5e-2


@dataclass(frozen=True)
class Finished:
    """The pruned ``weights`` by key, in the shapes of the dense model, and what was cut from them.

    ``eliminated`` is None where dead channels were to stay; ``written`` says how the file stores
    them. ``quantized`` is what was written where that was quantised, ``floats`` the model before.
    """

    weights: dict[str, np.ndarray]
    eliminated: Elimination | None
    written: Written
    quantized: Quantized | None = None
    floats: ir.Model | None = None


def finished(
    job: Job,
    student: Student,
    tensors: Mapping[str, np.ndarray],
    kept: Mapping[str, int],
    samples: int = RECALIBRATION_SAMPLES,
) -> dict[str, np.ndarray]:
    """Return ``tensors`` with the zeros asked for, and the statistics that belong to them.

    Those are of so many ``samples`` at most.
    """
    final = dict(tensors)
    for name in student.prunable:
        mask = job.masking.mask(name, final[name], kept[name])
        final[name] = pruned_exactly(final[name], mask)
    settings = job.recipe.training
    augment = settings.augment and settings.epochs > 0
    size = student.divided(settings.batch_size)
    return final | recalibrate(student, final, job.data, size, samples, job.cores, augment)


def finish(
    job: Job, student: Student, final: Mapping[str, np.ndarray], kept: Mapping[str, int]
) -> Finished:
    """Write the sparse model of the `finished` tensors to the output file of ``job``.

    Raises `TargetMissedError` if it has other zeros than asked for, and `OnnxUniptsError` if its
    signature or its outputs are not what they must be; nothing is written then, and a file that was
    there before stays.
    """
    model = job.load()
    write_back(student, model, final)
    _verify(job, model, kept)
    batch = next(batches_of(job.data, student.divided(job.recipe.training.batch_size)))
    _verify_outputs(job, student, model, final, batch)
    return _write(job, model, kept, batch)


def finish_untrained(job: Job, model: ir.Model, kept: Mapping[str, int]) -> Finished:
    """Write ``model``, whose weights are pruned and nothing else; raises as `finish` does."""
    if not fits_one_file(model):
        save_model(model, job.output)
        written = load_model(job.output)
        _verify(job, written, kept)
        if job.storage.format != "dense":
            job.warn("the model is over 2 GB and written dense; onnx-unipts pack makes it smaller")
        return Finished(read_tensors(written, job.keys), None, Written(Storage("dense")))
    _verify(job, model, kept)
    return _write(job, model, kept, job.data.batch(np.arange(1)))


def _write(
    job: Job, model: ir.Model, kept: Mapping[str, int], batch: Mapping[str, np.ndarray]
) -> Finished:
    _make_zeros_positive(job, model)
    smaller, eliminated = without_dead_channels(job, model, batch)
    integers = None if job.storage.quantize is None else quantized(job, smaller)
    final = smaller if integers is None else integers.model
    written = FORMATS[job.storage.format]().write(final.clone(), job.output, job.storage)
    for warning in written.warnings:
        job.warn(warning)
    _verify_file(job, model if integers is None else final, kept, batch, whole=final is model)
    floats = None if integers is None else smaller
    return Finished(read_tensors(model, job.keys), eliminated, written, integers, floats)


def _make_zeros_positive(job: Job, model: ir.Model) -> None:
    """Drop the sign that folding leaves on zeros: packed, a negative one is a value."""
    for key, tensor in read_tensors(model, job.keys).items():
        negative = (tensor == 0) & np.signbit(tensor)
        if negative.any():
            write_tensors(model, {key: np.where(negative, np.zeros(1, tensor.dtype), tensor)})


def pruned_exactly(tensor: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the values of ``tensor`` that ``mask`` (bool) keeps, none of which is zero."""
    pruned = np.where(mask, tensor, tensor.dtype.type(0))
    pruned[mask & (pruned == 0)] = np.finfo(tensor.dtype).tiny
    return pruned


def _verify(job: Job, model: ir.Model, kept: Mapping[str, int]) -> None:
    _verify_signature(job, model)
    zeros = {weight.key: weight.zero for weight in job.pruned}
    stored = stored_tensors(model)
    for key in job.keys:
        tensor = stored[key].numpy()
        if broken := job.masking.violation(key, tensor):
            raise TargetMissedError(
                f"{job.output}: weight {key} breaks the pattern {job.pattern.name}: {broken}"
            )
        stayed = int(np.count_nonzero(tensor != zeros[key]))
        if stayed != kept[key]:
            raise TargetMissedError(
                f"{job.output}: weight {key} keeps {stayed} values where {kept[key]} were to stay"
            )


def _verify_file(
    job: Job,
    model: ir.Model,
    kept: Mapping[str, int],
    batch: Mapping[str, np.ndarray],
    whole: bool,
) -> None:
    """Read the written file back, count its zeros if it holds all weights ``whole``, and run it."""
    if not is_ort_format(job.output):
        written = load_model(job.output)
        if whole:
            _verify(job, written, kept)
        else:
            _verify_signature(job, written)
    session = file_session(job.output, job.cores)
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


def _verify_outputs(
    job: Job,
    student: Student,
    model: ir.Model,
    final: Mapping[str, np.ndarray],
    batch: Mapping[str, np.ndarray],
) -> None:
    """Compare the outputs of ``model`` with those of the trained weights on one batch."""
    outputs = [replace(t, value=t.output) for t in student.targets if not t.inner]
    if not outputs:
        return  # none is the same value in both
    names = [target.output for target in outputs]
    trained = bind(student.model, final)
    expose(trained, outputs)
    ours, theirs = (
        run_samples(inference_session(serialize(m), job.cores), names, batch, job.own_batching)
        for m in (runnable(model), trained)
    )
    half = any(weight.dtype in ("FLOAT16", "BFLOAT16") for weight in job.pruned)
    for name, our, their in zip(names, ours, theirs, strict=True):
        error = _difference(our, their)
        if not error <= (HALF_TOLERANCE if half else OUTPUT_TOLERANCE):
            raise OnnxUniptsError(
                f"{job.output}: output {name} differs from that of the trained weights by "
                f"{error:.1%}; this is a defect, please report it"
            )


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference, relative to the largest value."""
    theirs = theirs.astype(np.float64)
    return float(np.abs(ours - theirs).max() / (np.abs(theirs).max() + 1e-6))
