"""Removing dead channels from a finished model, if its outputs stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnx_unipts.evaluation import run_samples
from onnx_unipts.graph.channels import Elimination, eliminate_dead_channels
from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.equivalence import relative_difference
from onnx_unipts.graph.errors import OnnxUniptsError
from onnx_unipts.graph.model import serialize
from onnx_unipts.graph.reason import reason_of
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.job import Job
from onnx_unipts.training.ort import inference_session

__all__ = ["TOLERANCE", "difference_from", "largest_difference", "without_dead_channels"]

# Sums over fewer terms round differently.
TOLERANCE = 1e-5
HALF_TOLERANCE = 1e-2
# What is pruned by channels was never written otherwise: there is no other file to equal.
CUT_TOLERANCE = 1e-3
# One in so many channels has to go for a file to get other shapes than the user's unasked.
LEAST_SHARE = 4


def without_dead_channels(
    job: Job, model: ir.Model, batch: Mapping[str, np.ndarray]
) -> tuple[ir.Model, Elimination | None]:
    """Return ``model`` without its dead channels, and what was removed.

    It is verified on ``batch``: where an output would change, relative to its largest value, by
    more than 1e-5, or 1e-2 in half precision, the model stays as it is, with a warning. Where they
    are to stay, they are counted all the same, and unless asked for so are fewer than a quarter of
    all channels; None stands for a pattern that they belong to.
    """
    if not job.pattern.survives_removal:
        return model, None
    smaller = model.clone()
    unasked = job.recipe.eliminate_dead_channels is None and not job.pattern.whole_model
    try:
        eliminated = eliminate_dead_channels(smaller)
        if not eliminated.removed:
            return model, eliminated
        if not job.eliminates or (unasked and _few(eliminated)):
            return model, replace(eliminated, removed=0, shapes={})
        difference = largest_difference(job, model, smaller, batch)
    except Exception as error:  # the finished model must not be lost to an unforeseen graph
        return model, _kept(job, f"they cannot be removed ({reason_of(error)})")
    if difference <= tolerance(job):
        return smaller, eliminated
    return model, _kept(job, f"an output would change by {difference:.1e} without them", eliminated)


def _few(eliminated: Elimination) -> bool:
    """Tell whether too few channels would go for anything to gain by it.

    Live weights that only they read would go with them: more zeros than were asked for.
    """
    return eliminated.removed * LEAST_SHARE < eliminated.channels


def _kept(job: Job, reason: str, eliminated: Elimination | None = None) -> Elimination | None:
    """Warn that dead channels stay; raise where cutting channels out was the purpose."""
    if job.pattern.whole_model and job.eliminates:
        raise OnnxUniptsError(
            f"{job.output}: channels stay, {reason}; this is a defect, please report it"
        )
    job.warn(f"dead channels stay: {reason}")
    return None if eliminated is None else replace(eliminated, removed=0, shapes={})


def tolerance(job: Job) -> float:
    """Return the relative difference that rounding explains."""
    if job.half:
        return HALF_TOLERANCE
    return CUT_TOLERANCE if job.pattern.whole_model else TOLERANCE


def largest_difference(
    job: Job, model: ir.Model, other: ir.Model, batch: Mapping[str, np.ndarray]
) -> float:
    """Return the largest difference of an output, relative to its largest value."""
    return difference_from(job, model, _session(job, other), batch)


def difference_from(
    job: Job,
    model: ir.Model,
    session: onnxruntime.InferenceSession,
    batch: Mapping[str, np.ndarray],
) -> float:
    """Return the largest difference between the outputs of ``model`` and those of ``session``.

    Of those that are tensors; none where they are random.
    """
    names = [str(output.name) for output in model.graph.outputs if _is_tensor(output)]
    if not names or job.random:
        return 0.0
    # What was made to take any number of samples may take a fixed one in the user's own file.
    batching = None if job.batching.size is None else job.batching
    ours, theirs = (run_samples(s, names, batch, batching) for s in (_session(job, model), session))
    return max(map(relative_difference, ours, theirs), default=0.0)


def _is_tensor(output: ir.Value) -> bool:
    known = output.type is None or isinstance(output.type, ir.TensorType)
    return known and "type_proto" not in output.meta


def _session(job: Job, model: ir.Model) -> onnxruntime.InferenceSession:
    return inference_session(serialize(runnable(model)), job.cores)
