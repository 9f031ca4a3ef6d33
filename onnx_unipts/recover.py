"""Recovery: what pruning broke is trained back, and the result is the best that was reached.

Training that leads away from the dense model is tried again more carefully; where it cannot be
trusted at all, the pruned model stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.attempts import Attempt, Untrained, attempts_at
from onnx_unipts.calibration import CalibrationData
from onnx_unipts.callbacks import Epoch
from onnx_unipts.course import Course
from onnx_unipts.distance import DivergenceFromDense
from onnx_unipts.finish import RECALIBRATION_SAMPLES, finished, pruned_exactly
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.job import Job
from onnx_unipts.memory import give_back
from onnx_unipts.reconstruction import fitting_views, reconstruct, unsearched_layers
from onnx_unipts.reconstruction.held_out import HELD_OUT
from onnx_unipts.run_directory import RunDirectory
from onnx_unipts.student import Student, batches_of
from onnx_unipts.training.recovery import RECOVERIES
from onnx_unipts.training.relative_adam import RelativeAdam
from onnx_unipts.training.self_check import check_gradients
from onnx_unipts.training.trainer import Checkpoint, Trainer, gradient_graph, taught_feeds

__all__ = ["Recovery", "recover"]

# Samples of a batch on which gradients are checked.
CHECK_BATCH = 4
# Samples of the statistics with which the model is measured in between.
QUICK_SAMPLES = 512


class Recovery(NamedTuple):
    """The tensors to write, what each keeps, the loss of every step, and the weights not trained.

    A recovery of the recipe may keep other numbers of weights than the allocation.
    """

    tensors: dict[str, np.ndarray]
    kept: Kept
    losses: list[float]
    untrained: list[str]
    history: Sequence[Mapping[str, Any]] = ()


def recover(job: Job, run: RunDirectory, student: Student, kept: Kept) -> Recovery:
    """Train; more carefully again where that leads away from the dense model: see `attempts_at`."""
    settings = job.recipe.training
    untrained, fitted = _without_training(job, student, kept)
    if settings.epochs == 0:
        return untrained[0]
    divergence_of = DivergenceFromDense(job, student)
    distances = [divergence_of(each.tensors) for each in untrained]
    best = untrained[int(np.argmin(distances))]
    if not student.trained or not _check(job, student, kept):
        return best
    renewed = fitted and best is untrained[0]
    before = Untrained(best.tensors, fitted, renewed, wholly=not best.untrained)
    attempts = {attempt.number: attempt for attempt in attempts_at(job, student, before)}

    def settle(number: int, state: Checkpoint, samples: int = RECALIBRATION_SAMPLES) -> Recovery:
        attempt = attempts[number]
        augment = settings.augment and not attempt.careful
        return _settled(job, attempt.settled, state, kept, augment, samples)

    course = Course(
        job, run, student, lambda number, state: settle(number, state, QUICK_SAMPLES).tensors
    )
    reached, resumed = _load_state(run)
    for number, attempt in attempts.items():
        if number < reached:
            continue
        course.add(number, Checkpoint(0, dict(attempt.start)))
        state = resumed if resumed is not None and number == reached else _copied(attempt.start)
        try:
            state, unreached = _trained(job, run, attempt, kept, state, course)
        except UnsupportedModelError:
            if attempt.learner.targets:
                raise
            continue  # layers that score classes are all that gradients reach
        course.add(number, state)  # of a finished training that is measured on other data now
        recovery = settle(number, state)
        if divergence_of(recovery.tensors) <= min(distances):
            return recovery._replace(untrained=unreached, history=course.of(number))
        _tell_of_failure(job, attempt, state, fitted)
    return best


def _pruned(student: Student, kept: Kept) -> Recovery:
    """Return the dense tensors pruned, with the statistics that they had."""
    dense, masking = student.dense, student.masking
    masks = {name: masking.mask(name, dense[name], kept[name]) for name in student.prunable}
    pruned = {name: pruned_exactly(dense[name], mask) for name, mask in masks.items()}
    return Recovery({**dense, **pruned}, kept, [], list(student.prunable))


def _settled(
    job: Job,
    student: Student,
    state: Checkpoint,
    kept: Kept,
    augment: bool = False,
    samples: int = RECALIBRATION_SAMPLES,
) -> Recovery:
    """Return the trained tensors, pruned; a recovery may have changed what each keeps.

    Statistics are of samples as they are, or with ``augment`` as training augments them.
    """
    recovery = RECOVERIES[job.recipe.training.recovery](student, kept)
    recovery.begin(state.tensors)
    tensors, counts = recovery.settle(state.tensors)
    settled = {**kept, **counts}
    final = finished(job, student, tensors, settled, augment, samples)
    return Recovery(final, settled, state.losses, list(student.prunable))


def _name_untrained(job: Job, student: Student, trainer: Trainer) -> None:
    cut = [name for name in trainer.unreached if name in student.prunable]
    if cut:
        nodes = f", cut off by {', '.join(trainer.stopped)}" if trainer.stopped else ""
        text = f"no gradient reaches {', '.join(cut)}: pruned without training{nodes}"
        if text not in job.warnings:
            job.warn(text)


def _trained(
    job: Job, run: RunDirectory, attempt: Attempt, kept: Kept, state: Checkpoint, course: Course
) -> tuple[Checkpoint, list[str]]:
    """Train the epochs that come after ``state``, whose arrays change.

    Returns the weights that no gradient reaches as well. The trainer ends here: its sessions take
    as much memory as all else.
    """
    settings, number = attempt.settings, attempt.number
    give_back()
    trainer = Trainer(attempt.learner, kept, job.data, settings, job.recipe.seed, job.replicas)
    if attempt.careful:
        trainer.optimizer = RelativeAdam()
    if attempt.parts:
        trainer.draw = job.data.zoomed
    _name_untrained(job, attempt.learner, trainer)
    unreached = list(trainer.unreached)
    if state.epoch < settings.epochs:
        for reached in trainer.epochs(state, job.progress):
            if _diverged(reached):
                return reached, unreached
            course.add(number, reached)
            _save_state(run, reached, number)
            losses = reached.losses[len(state.losses) :]
            shares = course.shares(number, reached.epoch)
            job.callbacks.epoch(Epoch(reached.epoch, settings.epochs, losses, **shares))
            state = reached
    return state, unreached


def _tell_of_failure(job: Job, attempt: Attempt, state: Checkpoint, fitted: bool) -> None:
    """Warn of a training that failed; from fitted layers, which may be hard to better, tell it."""
    diverged = _diverged(state)
    tell = job.progress.message if fitted and not diverged else job.warn
    how = diverged or "leads away from the dense model"
    tell(f"at a learning rate of {attempt.settings.learning_rate:g} training {how}")


def _copied(tensors: Mapping[str, np.ndarray]) -> Checkpoint:
    return Checkpoint(0, {name: tensor.copy() for name, tensor in tensors.items()})


def _diverged(state: Checkpoint) -> str:
    """Say how the training up to ``state`` diverged; empty where it did not."""
    if len(broken := np.flatnonzero(~np.isfinite(state.losses))):
        return f"diverges: the loss is {state.losses[broken[0]]} at step {broken[0] + 1}"
    finite = all(np.isfinite(tensor).all() for tensor in state.tensors.values())
    return "" if finite else f"diverges: weights are infinite in epoch {state.epoch}"


def _without_training(job: Job, student: Student, kept: Kept) -> tuple[list[Recovery], bool]:
    """Return what can be written without training, and whether layers were fitted for it.

    That is, with the statistics that belong to it, and the dense model pruned, with the old ones.
    Where layers are fitted before training, that has to show on samples that they were not fitted
    to. Those that are not made up are seen as they are for that, and then layers are fitted again,
    to all of them and to parts of them.
    """
    settings = job.recipe.training
    pruned = _pruned(student, kept)
    views = _views(job, student)
    if settings.reconstruction and job.searches_masks:
        _name_unsearched(job, student, kept)
    if settings.reconstruction and settings.epochs == 0:
        fitted = _fitted(job, student, kept, job.data, views)
        _name_unfitted(job, fitted)
        return [fitted, pruned], True
    plain = [_settled(job, student, Checkpoint(0, dict(student.tensors)), kept), pruned]
    if not settings.reconstruction:
        return plain, False
    fitted_to, held_out = job.data.split(max(len(job.data) // HELD_OUT, 1), job.recipe.seed)
    fitted = _fitted(job, student, kept, fitted_to, views if job.synthetic else 1)
    divergence_of = DivergenceFromDense(job, student, held_out)
    if divergence_of(fitted.tensors) >= min(divergence_of(each.tensors) for each in plain):
        job.progress.message("layers fitted one by one do no better on samples held out: not used")
        return plain, False
    if not job.synthetic:
        fitted = _fitted(job, student, kept, job.data, views)
    _name_unfitted(job, fitted)
    return [fitted, pruned], True


def _views(job: Job, student: Student) -> int:
    """Return how many views of each sample layers are fitted to."""
    return fitting_views(job.data, student.multiplications, job.recipe.training.augment)


def _name_unfitted(job: Job, fitted: Recovery) -> None:
    if fitted.untrained:
        job.warn(f"not fitted to its dense outputs: {', '.join(fitted.untrained)}")


def _name_unsearched(job: Job, student: Student, kept: Kept) -> None:
    large = [name for name in unsearched_layers(student) if kept[name] < student.dense[name].size]
    if large:
        names = ", ".join(large)
        job.progress.message(f"too large for the search of masks, which stay by magnitude: {names}")


def _fitted(job: Job, student: Student, kept: Kept, data: CalibrationData, views: int) -> Recovery:
    """Return what layers fitted on ``data`` make without training."""
    tensors, unfitted = reconstruct(
        student, kept, data, job.cores, job.progress, job.searches_masks, views
    )
    settled = _settled(job, student, Checkpoint(0, dict(tensors)), kept)
    return settled._replace(untrained=unfitted)


def _check(job: Job, student: Student, kept: Kept) -> bool:
    """Compare gradients with finite differences; say whether they are right, and warn if not.

    At half the sparsity: unlike the dense model the student is then not at its optimum, and unlike
    the sparse one not so broken that every step of a finite difference crosses many kinks.
    """
    size = student.batching.size or min(CHECK_BATCH, job.recipe.training.batch_size)
    tensors = {
        name: tensor * student.masking.mask(name, tensor, (tensor.size + kept[name]) // 2)
        if name in student.prunable
        else tensor
        for name, tensor in student.tensors.items()
    }
    try:
        graph = gradient_graph(student, size)
        batch = next(student.batching.runs(next(batches_of(job.data, size))))
        feeds = isolated(taught_feeds, student, job.recipe.training, batch)
        check = check_gradients(graph, {**tensors, **batch, **feeds})
    except UnsupportedModelError as error:
        job.warn(f"pruned without training: {error}")
        return False
    if not check.passed:
        worst = sorted(check.errors, key=lambda name: -check.errors[name])[:3]
        job.warn(
            f"pruned without training: gradients differ from finite differences, by "
            f"{check.median:.0%} in the median, most at {', '.join(worst)}"
        )
        return False
    if check.wrong:
        job.warn(f"the gradients of {', '.join(check.wrong)} may be inexact")
    return True


def _save_state(run: RunDirectory, state: Checkpoint, attempt: int) -> None:
    arrays = {f"tensor/{name}": value for name, value in state.tensors.items()}
    arrays |= {f"velocity/{name}": value for name, value in state.velocity.items()}
    facts = {"epoch": state.epoch, "losses": state.losses, "attempt": attempt}
    run.save_checkpoint("training", arrays, facts)
    run.note_times()


def _load_state(run: RunDirectory) -> tuple[int, Checkpoint | None]:
    """Return which attempt at training an interrupted run was in, and how far it was."""
    saved = run.load_checkpoint("training")
    if saved is None:
        return 0, None
    arrays, state = saved
    parts: dict[str, dict[str, np.ndarray]] = {"tensor": {}, "velocity": {}}
    for name, value in arrays.items():
        part, _, tensor = name.partition("/")
        parts[part][tensor] = value
    reached = Checkpoint(state["epoch"], parts["tensor"], parts["velocity"], state["losses"])
    return int(state["attempt"]), reached
