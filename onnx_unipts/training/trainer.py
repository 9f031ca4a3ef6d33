"""Dynamic sparse training: masks that move at every step, one replica of the student per core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph import normalization
from onnx_unipts.graph.cleanup import freeze_batch
from onnx_unipts.graph.differentiable import make_differentiable
from onnx_unipts.graph.dynamic_batch import Batching
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.progress import Progress
from onnx_unipts.recipe import Training
from onnx_unipts.student import Student, batches_of
from onnx_unipts.targets import Target, expose
from onnx_unipts.training.objective import OBJECTIVES, append_loss, loss_feeds
from onnx_unipts.training.optimizer import MomentumSGD
from onnx_unipts.training.ort import (
    GradientGraph,
    GradientSession,
    build_gradient_graph,
    inference_session,
)
from onnx_unipts.training.recovery import RECOVERIES
from onnx_unipts.training.relative_adam import RelativeAdam
from onnx_unipts.training.schedule import feature_share, learning_rate, sparsity_share

__all__ = [
    "SMALLEST_SLICE",
    "Checkpoint",
    "Trainer",
    "differentiable_student",
    "gradient_graph",
    "replicas_for",
    "taught_feeds",
    "variances_of",
]

# Measured on ResNet-20: slices of 32 lose half a point to one batch of 64, slices of 4 four points.
SMALLEST_SLICE = 16
# In fewer steps than these the inner activations weigh less: they pull hardest at the start, and
# what they pull away from the outputs takes steps to come back.
FEATURE_STEPS = 400

# Loss and gradient by parameter.
Step = tuple[float, dict[str, np.ndarray]]


@dataclass
class Checkpoint:
    """The whole state between two epochs. Its arrays are the trainer's own: they train on."""

    epoch: int
    tensors: dict[str, np.ndarray]
    velocity: dict[str, np.ndarray] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)


def replicas_for(batch_size: int, cores: int) -> int:
    """Return how many replicas share a batch equally: the most that ``cores`` can run.

    None gets fewer than `SMALLEST_SLICE` samples, because each normalises by its own statistics.
    """
    most = max(1, min(cores, batch_size // SMALLEST_SLICE))
    return max(k for k in range(1, most + 1) if batch_size % k == 0)


def gradient_graph(student: Student, batch_size: int) -> GradientGraph:
    """Return the gradient graph of the student's distillation loss for ``batch_size`` samples.

    Built in a process of its own.
    """
    return isolated(_gradient_graph, student, batch_size)


def _gradient_graph(student: Student, batch_size: int) -> GradientGraph:
    model = differentiable_student(student, student.taught, batch_size)
    loss = append_loss(model, student.taught)
    return build_gradient_graph(model, student.trained, loss, student.normalizations)


def differentiable_student(
    student: Student, targets: Sequence[Target], batch_size: int
) -> ir.Model:
    """Return the student with the values of ``targets`` as outputs, ready for a loss on them."""
    model = student.model.clone()
    expose(model, targets)  # what is an output keeps its name
    RemoveUnusedNodesPass()(model)
    model = freeze_batch(model, batch_size, student.run_shapes(batch_size))
    normalization.train(model, student.normalizations)
    make_differentiable(model)
    return model


def taught_feeds(
    student: Student, settings: Training, batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return what the loss of the first epoch is fed for ``batch``, of one run of the student."""
    teacher = inference_session(student.teacher(settings.teacher_statistics))
    values = student.values
    taught = dict(zip(values, teacher.run(values, batch), strict=True))
    size = student.batching.size or len(next(iter(batch.values())))
    temperatures = OBJECTIVES[settings.objective](settings, 0)
    return loss_feeds(
        student.taught, taught, temperatures, size, variances_of(student, taught), size
    )


def variances_of(student: Student, taught: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the variance of each target that is compared by value."""
    return {t.value: float(taught[t.value].var()) for t in student.taught if t.kind == "values"}


class Trainer:
    """Trains the student of one model towards one allocation.

    Every step feeds the weights times their mask, so that the gradient that comes back is the
    straight-through gradient by the dense weight (UniPTS, arXiv 2405.18810, section 3.2).
    """

    def __init__(
        self,
        student: Student,
        kept: Mapping[str, int],
        data: CalibrationData,
        settings: Training,
        seed: int,
        replicas: int,
    ) -> None:
        """``kept`` is the number of weights that each prunable tensor keeps in the end."""
        self._student = student
        self.recovery = RECOVERIES[settings.recovery](student, kept)
        self._data = data
        self._settings = settings
        self._seed = seed
        self._replicas = replicas
        size = student.divided(settings.batch_size // replicas)
        # A slice of the batch goes through in several runs where one has no room for it.
        self._batching = student.batching if student.batching.size is not None else Batching(size)
        graph = gradient_graph(student, self._batching.size or size)
        self._sessions = [GradientSession(graph) for _ in range(replicas)]
        self._teachers = [
            inference_session(student.teacher(settings.teacher_statistics)) for _ in range(replicas)
        ]
        self._pool = ThreadPoolExecutor(replicas)
        first = next(batches_of(data, settings.batch_size))
        runs = [[*self._taught(0, run).values()] for run in self._batching.runs(first)]
        dense = self._batching.joined(runs, settings.batch_size)
        self._variances = variances_of(student, dict(zip(student.values, dense, strict=True)))
        self.optimizer: MomentumSGD | RelativeAdam = MomentumSGD(
            settings.momentum, settings.weight_decay, settings.pruned_decay
        )
        # What a step sees of the samples that it is given.
        self.draw: Callable[[np.ndarray, np.random.Generator], dict[str, np.ndarray]] = (
            data.augmented if settings.augment else lambda indices, rng: data.batch(indices)
        )
        self.unreached = graph.unreached
        self.stopped = graph.stopped

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in the data."""
        return len(self._data) // self._settings.batch_size

    @property
    def steps(self) -> int:
        """Number of steps of all epochs."""
        return self._settings.steps(len(self._data))

    def epochs(self, start: Checkpoint, progress: Progress) -> Iterator[Checkpoint]:
        """Train on from ``start``, whose arrays change in place; yield the state of every epoch."""
        state = start
        self.optimizer.velocity = state.velocity
        self.recovery.begin(state.tensors)
        done = state.epoch * self.steps_per_epoch
        with progress.phase("training", self.steps, done) as phase:
            for epoch in range(state.epoch, self._settings.epochs):
                losses = []
                for index, batch in enumerate(self._batches(epoch), epoch * self.steps_per_epoch):
                    losses.append(self.step(state.tensors, batch, index))
                    phase.advance(1, epoch=epoch + 1, loss=losses[-1])
                state = Checkpoint(
                    epoch + 1, state.tensors, state.velocity, [*state.losses, *losses]
                )
                yield state

    def step(
        self, tensors: dict[str, np.ndarray], batch: Mapping[str, np.ndarray], index: int
    ) -> float:
        """Update ``tensors`` in place by ``batch``, as step number ``index``; return the loss."""
        settings = self._settings
        masks = self.masks(tensors, sparsity_share(index, self.steps, settings.ramp))
        fed = {name: t * masks[name] if name in masks else t for name, t in tensors.items()}
        epoch = index // self.steps_per_epoch
        temperatures = OBJECTIVES[settings.objective](settings, epoch)
        size = settings.batch_size // self._replicas
        share = feature_share(index, self.steps, settings.features_fade)
        if self._student.targets:
            share *= min(1.0, self.steps / FEATURE_STEPS)
        targets = self._student.taught_at(share)

        def replica(number: int) -> Step:
            part = slice(number * size, (number + 1) * size)
            inputs = {name: value[part] for name, value in batch.items()}
            return _summed(one_run(number, run) for run in self._batching.runs(inputs))

        def one_run(number: int, inputs: Mapping[str, np.ndarray]) -> Step:
            taught = self._taught(number, inputs)
            feeds = loss_feeds(
                targets,
                taught,
                temperatures,
                settings.batch_size,
                self._variances,
                self._batching.size,
            )
            return self._sessions[number].run({**fed, **inputs, **feeds})[:2]

        loss, gradients = _summed(self._pool.map(replica, range(self._replicas)))
        rate = learning_rate(
            settings.learning_rate, index, self.steps, settings.warmup, settings.cosine_power
        )
        updates = self.recovery.updates(tensors, gradients, masks)
        self.optimizer.step(tensors, updates, masks, rate)
        return loss

    def masks(self, tensors: Mapping[str, np.ndarray], share: float = 1.0) -> dict[str, np.ndarray]:
        """Return the masks (bool) of the weights that stay at ``share`` of the final sparsity."""
        return self.recovery.masks(tensors, share)

    def _taught(self, replica: int, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = self._student.values
        return dict(zip(values, self._teachers[replica].run(values, inputs), strict=True))

    def _batches(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        rng = np.random.default_rng([self._seed, 1, epoch])
        order = rng.permutation(len(self._data))
        size = self._settings.batch_size
        for start in range(0, self.steps_per_epoch * size, size):
            yield self.draw(order[start : start + size], rng)


def _summed(steps: Iterable[Step]) -> Step:
    loss = 0.0
    gradients: dict[str, np.ndarray] = {}
    for one_loss, one in steps:
        loss += one_loss
        gradients = {n: gradients[n] + g for n, g in one.items()} if gradients else one
    return loss, gradients
