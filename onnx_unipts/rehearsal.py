"""The rehearsal: whether layers are fitted before training is tried where neither is sure.

Both ways are gone to their ends on three of four samples; the other fourth tells which led nearer
to the dense model.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import onnx_ir as ir

from onnx_unipts.callbacks import Callbacks
from onnx_unipts.evaluation import Fidelity, compare, outputs_of
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.job import Job
from onnx_unipts.progress import Quiet
from onnx_unipts.reconstruction.held_out import HELD_OUT
from onnx_unipts.run_directory import RunDirectory
from onnx_unipts.training.ort import RUNTIME_ERRORS, file_session, model_session

__all__ = ["SEEN", "Ways", "is_rehearsed", "rehearsed", "ways_of"]

# The share of the samples that both ways are gone on.
SEEN = 1 - 1 / HELD_OUT
# Where a way leads that cannot be gone.
NOWHERE = Fidelity(0, math.inf, None)


class Ways(NamedTuple):
    """One job twice: with training alone, and with layers fitted before it."""

    trained: Job
    fitted: Job


def ways_of(job: Job) -> Ways:
    """Return both ways to do ``job``."""
    trained, fitted = (
        replace(job, recipe=job.recipe.with_settings({"training.reconstruction": first}))
        for first in (False, True)
    )
    return Ways(trained, fitted)


def is_rehearsed(job: Job) -> bool:
    """Tell whether both ways are tried: see `chosen_way`."""
    settings = job.recipe.training
    return settings.reconstruction is None and settings.epochs > 0


def rehearsed(job: Job, run: RunDirectory, go: Callable[[Job, RunDirectory], ir.Model]) -> Job:
    """Return ``job`` with a recipe that says whether layers are fitted before training.

    Where that is to be found out, they are if the way with them is nearer to the dense model on
    samples that neither way has seen: diverges less, and agrees on no fewer of them. ``go`` returns
    the sparse model at the end of a way. What was found stands in the journal of ``run``.
    """
    if not is_rehearsed(job):
        return job
    ways = ways_of(job)
    run.times.begin("rehearsal")
    known = run.entries("rehearsal")
    fitted = known[-1]["fitted"] if known else _fitted_is_nearer(job, ways, run, go)
    run.times.end("rehearsal")
    return ways.fitted if fitted else ways.trained


def _fitted_is_nearer(
    job: Job, ways: Ways, run: RunDirectory, go: Callable[[Job, RunDirectory], ir.Model]
) -> bool:
    """Go both ways in directories of their own, which go in the end."""
    seen, unseen = job.data.split(len(job.data) // HELD_OUT, job.recipe.seed)
    directory, fingerprint = run.path / "rehearsal", job.fingerprint()

    def end_of(way: Job, name: str) -> Fidelity:
        short = replace(
            way,
            data=seen,
            eval_data=unseen,
            progress=Quiet(),
            callbacks=Callbacks(),
            warnings=[],
            keep_warning=None,
        )
        try:
            with RunDirectory.open(directory / name, fingerprint, resume=run.resumed) as inner:
                return isolated(_fidelity, short, go(short, inner))
        except (UnsupportedModelError, *RUNTIME_ERRORS):
            return NOWHERE

    with job.progress.phase("rehearsal", len(ways)) as phase:
        trained = end_of(ways.trained, "trained")
        phase.advance(1)
        fitted = end_of(ways.fitted, "fitted")
        phase.advance(1)
    nearer = _is_nearer(fitted, trained)
    if NOWHERE not in (fitted, trained):
        job.progress.message(
            f"layers are {'' if nearer else 'not '}fitted before training: divergence "
            f"{fitted.divergence:.3g} with it, {trained.divergence:.3g} without, on {len(unseen)} "
            "samples held out"
        )
    run.append("rehearsal", fitted=nearer)
    shutil.rmtree(directory, ignore_errors=True)
    return nearer


def _is_nearer(one: Fidelity, other: Fidelity) -> bool:
    agrees = (one.agreement or 0.0) >= (other.agreement or 0.0)
    return agrees and one.divergence < other.divergence


def _fidelity(job: Job, model: ir.Model) -> Fidelity:
    """Compare ``model`` with the dense one on the evaluation data of ``job``."""
    assert job.eval_data is not None
    dense, sparse = (
        outputs_of(session, job.targets, job.eval_data, job.own_batching)
        for session in (
            file_session(job.path, job.cores, job.targets),
            model_session(model, job.cores, job.targets),
        )
    )
    return compare(job.targets, dense, sparse)
