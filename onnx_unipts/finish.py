"""The end of a compression: mask, recalibrate, fold, cut, write, and have it verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_unipts.elimination import without_dead_channels
from onnx_unipts.export import FORMATS, Storage, Written
from onnx_unipts.export.qdq import Quantized
from onnx_unipts.graph.channels import Elimination
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import (
    fits_one_file,
    load_model,
    read_tensors,
    save_model,
    write_tensors,
)
from onnx_unipts.job import Job
from onnx_unipts.output_file import trial_of
from onnx_unipts.quantization import quantized
from onnx_unipts.student import Student, batches_of, recalibrate, write_back
from onnx_unipts.verification import verify_file, verify_model, verify_outputs

__all__ = ["Finished", "finish", "finish_untrained", "finished", "pruned_exactly"]

# Statistics of more samples than these change nothing that can be measured.
RECALIBRATION_SAMPLES = 4096
# Those of fewer samples at a time are too uncertain, layer after layer.
RECALIBRATION_BATCH = 64


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
    augment: bool = False,
    samples: int = RECALIBRATION_SAMPLES,
) -> dict[str, np.ndarray]:
    """Return ``tensors`` with the zeros asked for, and the statistics that belong to them.

    Those are of so many ``samples`` at most, with ``augment`` as training augments them.
    """
    final = dict(tensors)
    for name in student.prunable:
        mask = job.masking.mask(name, final[name], kept[name])
        final[name] = pruned_exactly(final[name], mask)
    size = student.divided(max(job.recipe.training.batch_size, RECALIBRATION_BATCH))
    return final | recalibrate(student, final, job.data, size, samples, job.cores, augment)


def finish(
    job: Job, student: Student, final: Mapping[str, np.ndarray], kept: Mapping[str, int]
) -> Finished:
    """Write the sparse model of the `finished` tensors to the output file of ``job``.

    Raises `TargetMissedError` if it has other zeros than asked for, and `OnnxUniptsError` if its
    signature or its outputs are not what they must be; nothing is written then, and a file that was
    there before stays.
    """
    broken = [name for name, tensor in final.items() if not np.isfinite(tensor).all()]
    if broken:
        raise UnsupportedModelError(
            f"{broken[0]} would hold NaN or infinite values; is the data too large?"
        )
    model = job.load()
    write_back(student, model, final)
    verify_model(job, model, kept)
    batch = next(batches_of(job.data, student.divided(job.recipe.training.batch_size)))
    verify_outputs(job, student, model, final, batch)
    return _write(job, model, kept, batch)


def finish_untrained(job: Job, model: ir.Model, kept: Mapping[str, int]) -> Finished:
    """Write ``model``, whose weights are pruned and nothing else; raises as `finish` does."""
    if not fits_one_file(model):
        verify_model(job, model, kept)
        save_model(model, job.output)
        written = load_model(job.output)
        verify_model(job, written, kept)
        if job.storage.format != "dense":
            job.warn("the model is over 2 GB and written dense; onnx-unipts pack makes it smaller")
        return Finished(read_tensors(written, job.keys), None, Written(Storage("dense")))
    verify_model(job, model, kept)
    return _write(job, model, kept, job.data.batch(np.arange(1)))


def _write(
    job: Job, model: ir.Model, kept: Mapping[str, int], batch: Mapping[str, np.ndarray]
) -> Finished:
    _make_zeros_positive(job, model)
    smaller, eliminated = without_dead_channels(job, model, batch)
    integers = None if job.storage.quantize is None else quantized(job, smaller)
    final = smaller if integers is None else integers.model
    writer = FORMATS[job.storage.format]()
    with trial_of(job.output) as trial:
        writer.write(final.clone(), trial, job.storage)
        stored = model if integers is None else final
        verify_file(job, stored, kept, batch, whole=final is model, path=trial)
    written = writer.write(final.clone(), job.output, job.storage)
    # Channels are cut out: that no zeros are left to be stored is no fault.
    for warning in () if job.pattern.whole_model else written.warnings:
        job.warn(warning)
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
