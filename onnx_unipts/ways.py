"""The way from a dense model to a sparse one: whether layers are fitted first, and what follows.

What few samples and steps cannot teach, least squares can.
"""

from __future__ import annotations

from onnx_unipts.data_check import holds_scores
from onnx_unipts.fit_cost import sample_multiplications
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.job import Job
from onnx_unipts.recipe import Recipe
from onnx_unipts.reconstruction.held_out import HELD_OUT
from onnx_unipts.training.ort import file_session

__all__ = ["chosen_way"]

# Fewer samples than the first, for more weights each than the second, are learned by heart.
FEW_SAMPLES = 1024
WEIGHTS_PER_SAMPLE = 1000
# Fewer steps than these teach so little that no rehearsal is needed to know it.
FEW_STEPS = 64
# Steps from which on training reaches about as much without fitted layers. By them ResNet-20 gains
# half a point after 300 steps at 0.8 and 0.9, as much after 192 at 0.95 and nothing after 384.
ENOUGH_STEPS = 256
# Multiplications of all samples of all epochs, forwards, for which a rehearsal takes too long: five
# minutes of training. ResNet-20 reaches them with 2,400 images in three epochs.
MOST_MULTIPLICATIONS = 300_000_000_000
# The operators with or behind which a student has normalisations that adapt.
ADAPTING = ("BatchNormalization", "Conv", "ConvTranspose")


def chosen_way(job: Job, unfilled: bool) -> Recipe:
    """Return the recipe of ``job`` with what it leaves open of the way.

    That is whether layers are fitted before training, and whether that is careful then.
    ``unfilled`` says that the samples do not fill a batch. What is still None is for a rehearsal to
    find out: ``training.reconstruction``.
    """
    settings = job.recipe.training
    if settings.epochs == 0:
        return job.recipe
    free = settings.recovery == "dynamic" and not job.synthetic and not job.pattern.whole_model
    few = unfilled or _are_few(job)
    first, careful = settings.reconstruction, settings.careful
    if first is None and (unfilled or (few and settings.recovery == "dynamic")):
        first = True
    elif first is None and not (free and _is_open(job)):
        first = False
    if first is not False and careful is None:
        careful = few or not free or not _teaches_better(job)
    if first is None:
        first = _fits_pay(job, careful=bool(careful))
    found = {"training.reconstruction": first, "training.careful": careful}
    return job.recipe.with_settings(found)


def _are_few(job: Job) -> bool:
    return len(job.data) < FEW_SAMPLES and _weights(job) >= len(job.data) * WEIGHTS_PER_SAMPLE


def _weights(job: Job) -> int:
    return sum(weight.count for weight in job.pruned)


def _is_open(job: Job) -> bool:
    """Tell whether layers may be fitted at all: elsewhere the dense model need not be looked at."""
    return job.recipe.training.steps(len(job.data)) < ENOUGH_STEPS or _is_affordable(job)


def _is_affordable(job: Job) -> bool:
    """Tell whether a rehearsal is: its batches are filled, and it does not take too long."""
    settings, count = job.recipe.training, len(job.data)
    # Each weight counts at least once, also where shapes are not known.
    each = max(sample_multiplications(job), _weights(job))
    takes = each * settings.epochs * count
    return takes <= MOST_MULTIPLICATIONS and count - count // HELD_OUT >= settings.batch_size


def _fits_pay(job: Job, *, careful: bool) -> bool | None:
    """Tell whether fitting layers before training pays, None where a rehearsal is to say it."""
    steps = job.recipe.training.steps(len(job.data))
    if not careful:
        return steps < ENOUGH_STEPS
    if steps < FEW_STEPS:
        return True
    return None if _is_affordable(job) else False


def _teaches_better(job: Job) -> bool:
    """Tell whether what is trained may be right more often the less it is like the dense model.

    Scores of a dense model that adapted to the data are nearer to the truth than its own. ResNet-20
    at 0.8 from 6,400 images: trained alone, it is right on 86.7 % of others and agrees with the
    dense model, right on 86.5 %, on 86.9 %; carefully from fitted layers on 82.9 % and 88.3 %.
    """
    if job.recipe.training.adaptation == 0:
        return False
    if not any(node.op_type in ADAPTING for node in job.dense.graph):
        return False
    try:
        targets = job.targets
    except UnsupportedModelError:
        return False
    return holds_scores(file_session(job.path, job.cores, targets), targets, job.data)
