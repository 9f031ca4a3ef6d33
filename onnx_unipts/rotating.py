"""Rotating the model of a job: which of its linear streams are turned, and the job with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.evaluation import outputs_of
from onnx_unipts.graph.equivalence import relative_difference
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import fits_one_file
from onnx_unipts.graph.streams import Stream
from onnx_unipts.job import Job
from onnx_unipts.rotation import multiplications, rotatable, rotated_tensors
from onnx_unipts.run_directory import RunDirectory
from onnx_unipts.training.ort import file_session, model_session

__all__ = ["ROTATION", "UNROTATED", "rotated", "rotation_facts", "rotation_seconds"]

# The checkpoint of the tensors that change.
ROTATION = "rotation"
UNROTATED = {"streams": 0, "channels": 0}
# Samples on which the rotated model is compared with the dense one, and how far outputs may differ.
VERIFIED_SAMPLES = 8
TOLERANCE, HALF_TOLERANCE = 1e-3, 2e-2
# Of one core: MobileNetV2 takes 2.3 s.
MULTIPLICATIONS_PER_SECOND = 4e10


def rotated(job: Job, run: RunDirectory) -> Job:
    """Return ``job`` with its model rotated, where recipe and model allow it.

    It is verified on a few samples: where an output changes by more than rounding explains, the
    model stays as it is.
    """
    run.times.begin("preparation")
    saved = run.load_checkpoint(ROTATION)
    turned = _with(job, saved[0]) if saved is not None else _verified(job)
    if saved is None and turned is not job:
        run.save_checkpoint(ROTATION, turned.rotated, {})
    run.times.end("preparation")
    return turned


def _verified(job: Job) -> Job:
    streams = _streams(job)
    if not streams:
        return job
    tensors = rotated_tensors(job.dense, streams, job.progress)
    turned = _with(job, tensors)
    difference = _difference(job, turned.dense)
    if difference <= (HALF_TOLERANCE if job.half else TOLERANCE):
        facts = _facts(streams)
        job.progress.message(
            f"linear streams are rotated to where weights are sparser: {facts['streams']} of "
            f"{facts['channels']} channels; the model computes the same"
        )
        return turned
    job.warn(f"streams are not rotated: an output would change by {difference:.1e}")
    return job


def _difference(job: Job, turned: ir.Model) -> float:
    """Return the largest difference of what is compared of the outputs, relative to the largest."""
    few = job.data.subset(np.arange(min(len(job.data), VERIFIED_SAMPLES)))
    before, after = (
        outputs_of(session, job.targets, few, job.own_batching)
        for session in (
            file_session(job.path, job.cores, job.targets),
            model_session(turned, job.cores, job.targets),
        )
    )
    return max(relative_difference(before[name], after[name]) for name in before)


def _with(job: Job, tensors: Mapping[str, np.ndarray]) -> Job:
    turned = replace(job, rotated=tensors)
    turned.dense = turned.load()
    return turned


def rotation_facts(job: Job) -> dict[str, Any]:
    """Return how many ``streams`` a run of ``job`` turns, and their ``channels`` together."""
    return _facts(_streams(job))


def _facts(streams: Sequence[Stream]) -> dict[str, Any]:
    return {"streams": len(streams), "channels": sum(stream.width for stream in streams)}


def rotation_seconds(job: Job) -> float:
    """Return about how many seconds `rotated` takes on an idle machine."""
    return multiplications(job.dense, _streams(job)) / MULTIPLICATIONS_PER_SECOND


def _streams(job: Job) -> list[Stream]:
    """Return the streams to turn.

    Not those of a model that is pruned as it lies there or that cannot be verified, nor those in
    which normalisations keep statistics that were not measured on the data: in another basis these
    are not known.
    """
    if not job.recipe.rotation or job.pattern.whole_model or job.quantised or job.random:
        return []
    if not fits_one_file(job.dense) or not _is_comparable(job):
        return []
    streams = rotatable(job.dense, job.keys)
    return [stream for stream in streams if job.restates or not stream.normalized]


def _is_comparable(job: Job) -> bool:
    try:
        return bool(job.targets)
    except UnsupportedModelError:
        return False
