"""What a user is told of a job before it runs: its data, its outputs, and what may surprise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx_unipts.allocation.automatic import AUTO
from onnx_unipts.chosen_weights import weights_of
from onnx_unipts.data_check import check_outputs, stand_ins, value_ranges
from onnx_unipts.graph.prunable import KINDS, matching
from onnx_unipts.job import Job
from onnx_unipts.targets import Target
from onnx_unipts.training.ort import file_session

__all__ = ["present"]

# The share of all weights from which on it is said that some are pruned only where asked for.
LEAST_LEFT = 0.05


def present(job: Job, targets: Sequence[Target], last_resort: str, wanted: int) -> None:
    """Tell of ``job``, whose ``targets`` are compared.

    ``last_resort`` is the kind of weights that are pruned for want of others, ``wanted`` the size
    of batches that was asked for.
    """
    _present_data(job, targets)
    _present_randomness(job)
    _present_targets(job, targets)
    for text in (*_without_effect(job), *_left_out(job)):
        job.warn(text)
    if last_resort:
        job.warn(_for_want_of_others(job))
    _present_batch(job, wanted)


def _present_data(job: Job, targets: Sequence[Target]) -> None:
    """Say what the data is and what was assumed about it, and what looks wrong with it."""
    described = {"calibration data": job.data}
    if job.eval_data is not None:
        described["evaluation data"] = job.eval_data
    for name, data in described.items():
        job.progress.message(f"{name}: {data.description}")
        for line in value_ranges(data):
            job.progress.message(line)
        for warning in data.warnings:
            job.warn(warning)
    if job.synthetic:
        described.pop("calibration data")
    for name, data in described.items():
        found = stand_ins(data)
        if targets:
            session = file_session(job.path, job.cores, targets)
            found += check_outputs(session, targets, data)
        for warning in found:
            job.warn(f"{name}: {warning}")


def _present_targets(job: Job, targets: Sequence[Target]) -> None:
    """Say how the outputs are compared, which their shapes and makers alone tell."""
    if kinds := ", ".join(f"{target.output} as {target.in_words}" for target in targets):
        job.progress.message(f"compared with the dense model's: {kinds}")


def _present_randomness(job: Job) -> None:
    if job.random:
        job.warn(
            f"the model makes random numbers ({job.random[0]}), so that its outputs differ from "
            "run to run: what is written cannot be compared with what was trained; if it is to "
            "work as in inference, export it in evaluation mode"
        )


def _without_effect(job: Job) -> Iterator[str]:
    """Yield what was asked for and changes nothing."""
    for pattern in job.recipe.exclude:
        if not matching(job.weights, pattern):
            yield f"exclude {pattern!r} matches no weight; see onnx-unipts inspect"
    method = job.recipe.allocation.method
    if job.recipe.allocation.minimum > 1 - job.sparsity:
        yield (
            f"allocation.minimum {job.recipe.allocation.minimum:g} is more than what is kept of "
            f"all, {1 - job.sparsity:.4g}: every layer keeps about that share"
        )
    if job.pattern.fixed_sparsity is not None and method not in (AUTO, "uniform"):
        yield (
            f"allocation {method} has no effect: the pattern {job.pattern.name} prescribes the "
            "sparsity of every layer"
        )


def _left_out(job: Job) -> Iterator[str]:
    """Yield which weights are not pruned that a user may count on: computed ones, other kinds."""
    computed = [weight for weight in job.weights if weight.computed and not weight.kind]
    pruned = sum(weight.count for weight in job.pruned)
    if computed:
        counts = [weight.count for weight in computed]
        extent = f" ({sum(counts):,} values; {pruned:,} are pruned)" if all(counts) else ""
        yield (
            f"{len(computed)} of {len(job.weights)} weights{extent} are not in the sparsity: the "
            f"graph computes them from constants (first {computed[0].name!r}); where a simplifier "
            "such as onnxsim folds them, simplify the model first"
        )
    keys = set(job.keys)
    found = weights_of(job.dense, job.recipe, KINDS)
    left = [weight for weight in found if weight.pruned and weight.key not in keys]
    for kind in KINDS:
        some = [weight for weight in left if weight.kind == kind]
        values = sum(weight.count for weight in some)
        if values > LEAST_LEFT * (pruned + values):
            operators = ", ".join(sorted({weight.operator for weight in some}))
            yield (
                f"{len(some)} weights of {operators} stay dense: {values:,} values, {pruned:,} "
                f"are pruned; --include {kind} prunes them, too"
            )


def _for_want_of_others(job: Job) -> str:
    operators = ", ".join(sorted({weight.operator for weight in job.pruned}))
    others = "the model has no other weights"
    if job.recipe.pattern != "unstructured":
        others += f" that the pattern {job.pattern.name} suits"
    return f"{others}: those of {operators} are pruned"


def _present_batch(job: Job, wanted: int) -> None:
    """Say that samples are too few for a batch of the size that was ``wanted``, or to learn by."""
    settings, samples = job.recipe.training, len(job.data)
    fitted = settings.reconstruction and settings.epochs > 0
    if settings.batch_size != wanted:
        job.warn(
            f"{samples} samples do not fill a batch of {wanted}: trained by {settings.batch_size} "
            "a step" + (", from layers fitted one by one" if fitted else "")
        )
    elif fitted:
        job.progress.message(f"trained on {samples} samples from layers fitted one by one")
