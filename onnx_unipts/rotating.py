"""Rotating the model of a job: which of its linear streams are turned, and the job with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onnx_unipts.graph.model import fits_one_file
from onnx_unipts.graph.streams import Stream
from onnx_unipts.job import Job
from onnx_unipts.rotation import multiplications, rotatable, rotated_tensors
from onnx_unipts.run_directory import RunDirectory

__all__ = ["ROTATION", "rotated", "rotation_facts", "rotation_seconds"]

# The checkpoint of the tensors that change.
ROTATION = "rotation"
# Of one core: MobileNetV2 takes 2.3 s.
MULTIPLICATIONS_PER_SECOND = 4e10


def rotated(job: Job, run: RunDirectory) -> Job:
    """Return ``job`` with its model rotated, where recipe and model allow it."""
    run.times.begin("preparation")
    saved = run.load_checkpoint(ROTATION)
    if saved is not None:
        tensors = saved[0]
    elif tensors := rotated_tensors(job.dense, job.keys, _streams(job), job.progress):
        run.save_checkpoint(ROTATION, tensors, {})
    run.times.end("preparation")
    if not tensors:
        return job
    turned = replace(job, rotated=tensors)
    turned.dense = turned.load()
    return turned


def rotation_facts(job: Job) -> dict[str, Any]:
    """Return how many ``streams`` a run of ``job`` turns, and their ``channels`` together."""
    streams = _streams(job)
    return {"streams": len(streams), "channels": sum(stream.width for stream in streams)}


def rotation_seconds(job: Job) -> float:
    """Return about how many seconds `rotated` takes on an idle machine."""
    return multiplications(job.dense, job.keys, _streams(job)) / MULTIPLICATIONS_PER_SECOND


def _streams(job: Job) -> list[Stream]:
    """Return the streams to turn.

    Not those of a model that is pruned as it lies there, nor those in which normalisations keep
    statistics that were not measured on the data: in another basis these are not known.
    """
    if not job.recipe.rotation or job.pattern.whole_model or job.quantised:
        return []
    if not fits_one_file(job.dense):
        return []
    streams = rotatable(job.dense, job.keys)
    return [stream for stream in streams if job.restates or not stream.normalized]
