"""Refining synthetic images by gradient on their pixels.

Without data, what the dense model knows about its training data is all there is: which images it is
sure about, and the statistics of its normalisations. Images are moved towards both, and stay
images: their change has the falling spectrum of photographs, and they are shifted and mirrored
between the steps. Left free, pixels would turn into patterns that fool the model and teach nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_unipts.calibration.data import CalibrationData, ImageColumn
from onnx_unipts.calibration.preprocessing import Layout, Normalization
from onnx_unipts.calibration.structured_images import power_law
from onnx_unipts.graph.cleanup import clean
from onnx_unipts.graph.dynamic_batch import with_dynamic_batch
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import serialize
from onnx_unipts.graph.precision import in_single_precision
from onnx_unipts.progress import Progress
from onnx_unipts.recipe import Synthetic
from onnx_unipts.synthesis.loss import WANTED, image_gradients
from onnx_unipts.targets import Target, choose_targets, expose, log_softmax, softmax
from onnx_unipts.training.ort import GradientGraph, GradientSession, inference_session

__all__ = ["balanced_classes", "refine_images"]

BATCH = 64
LARGEST_BATCH = 64 * 3 * 64 * 64  # numbers
EXPONENT = 2.0  # of a change's spectrum: amplitudes 1 / f, as the gradient's precondition squared


def refine_images(
    model: ir.Model,
    data: CalibrationData,
    settings: Synthetic,
    seed: int,
    cores: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Return refined pixels by input name, uint8 of the shape that ``data`` has them in.

    ``model`` is the dense model. Each of ``settings.refinement`` steps moves the pixels of every
    image by ``settings.rate`` in the root mean square, down the gradient of the loss of
    `onnx_unipts.synthesis.loss`: towards a class that the model already leans to, all classes being
    wanted equally often, and towards the statistics of its normalisations. Empty where the model
    has no input of images, or nothing that they could be refined by.
    """
    images = {
        name: column
        for name in data.input_names
        if isinstance(column := data.column(name), ImageColumn) and column.normalization is not None
    }
    if not images or settings.refinement == 0 or len(images) < len(data.input_names):
        return {}
    working = clean(with_dynamic_batch(in_single_precision(model.clone(), [])), [])
    target = _class_scores(working)
    size = _batch_size(data)
    try:
        graph = image_gradients(working, target, list(images), size)
    except UnsupportedModelError:
        return {}
    if graph is None:
        return {}
    wanted = None
    if target is not None:
        scores = _scores(working, target, data, cores)
        wanted = _wanted(scores, target, settings.confidence, np.random.default_rng([seed, 4]))
    batches = np.resize(np.arange(len(data)), (-(-len(data) // size), size))
    with (
        progress.phase("synthesis", len(batches)) as phase,
        ThreadPoolExecutor(min(cores, len(batches))) as pool,
    ):
        workers = _Workers(graph, images, settings, seed)
        refined: dict[str, np.ndarray] = {
            name: np.empty((len(data), *column.pixels[np.arange(1)].shape[1:]), np.uint8)
            for name, column in images.items()
        }
        jobs = ((rows, None if wanted is None else wanted[rows]) for rows in batches)
        for rows, pixels in zip(batches, pool.map(workers.refine, jobs), strict=True):
            for name, values in pixels.items():
                refined[name][rows] = values
            phase.advance(1)
    return refined


def balanced_classes(scores: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Return probabilities, float64 (samples, classes), in which all classes are equally frequent.

    Those nearest to the softmax of ``scores`` in the sense of Kullback and Leibler, by Sinkhorn's
    iteration.
    """
    logarithms = log_softmax(scores.astype(np.float64))
    for _ in range(rounds):
        logarithms = logarithms - np.log(np.exp(logarithms).sum(axis=0) + 1e-300)
        logarithms = log_softmax(logarithms)
    return np.exp(logarithms)


def _class_scores(model: ir.Model) -> Target | None:
    """Return the first target of one distribution over classes per sample."""
    values = {value.name: value for node in model.graph for value in node.outputs}
    for target in choose_targets(model):
        value = values.get(target.value)
        shape = None if value is None else value.shape
        if target.kind == "classes" and shape is not None and len(shape) == 2:
            return target if isinstance(shape[1], int) else None
    return None


def _batch_size(data: CalibrationData) -> int:
    numbers = sum(int(np.prod(v.shape[1:])) for v in data.batch(np.arange(1)).values())
    return max(1, min(BATCH, len(data), LARGEST_BATCH // numbers))


def _scores(model: ir.Model, target: Target, data: CalibrationData, cores: int) -> np.ndarray:
    """Return the scores of all samples, (samples, classes)."""
    model = model.clone()
    expose(model, [target])
    session = inference_session(serialize(model), cores)
    slices = (np.arange(i, min(i + BATCH, len(data))) for i in range(0, len(data), BATCH))
    return np.concatenate([session.run([target.value], data.batch(rows))[0] for rows in slices])


def _wanted(
    scores: np.ndarray, target: Target, confidence: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the probabilities that the scores shall have, float32 (samples, classes).

    A class drawn from `balanced_classes` gets at least ``confidence``, the others share the rest as
    the model does now: how classes resemble each other is part of what it knows.
    """
    plan = balanced_classes(scores)
    drawn = (rng.random((len(plan), 1)) < plan.cumsum(axis=1)).argmax(axis=1)
    rest = softmax(scores.astype(np.float64))
    at = np.arange(len(rest)), drawn
    present = rest[at].copy()
    rest[at] = 0
    rest /= np.maximum(rest.sum(axis=1, keepdims=True), 1e-12)
    sure = np.maximum(present, confidence)
    wanted = rest * (1 - sure)[:, None]
    wanted[at] = sure
    return wanted.astype(np.float32)


@dataclass
class _Image:
    """What pixels of one input become, and the spectrum of their changes."""

    column: ImageColumn
    normalization: Normalization
    spectrum: np.ndarray

    @classmethod
    def of(cls, column: ImageColumn) -> _Image:
        assert column.normalization is not None
        height, width = _spatial(column.pixels[np.arange(1)].shape, column.layout)
        return cls(column, column.normalization, power_law(height, width, EXPONENT))


class _Workers:
    """Refines one batch at a time; a session for each thread that asks."""

    def __init__(
        self,
        graph: GradientGraph,
        images: Mapping[str, ImageColumn],
        settings: Synthetic,
        seed: int,
    ) -> None:
        self._graph = graph
        self._images = {name: _Image.of(column) for name, column in images.items()}
        self._settings = settings
        self._seed = seed
        self._free: list[GradientSession] = []

    def refine(self, job: tuple[np.ndarray, np.ndarray | None]) -> dict[str, np.ndarray]:
        """Return the refined pixels of the samples ``rows``, uint8, by input name."""
        rows, wanted = job
        session = self._free.pop() if self._free else GradientSession(self._graph)
        rng = np.random.default_rng([self._seed, 5, int(rows[0])])
        pixels = {
            name: _channels_first(image.column.pixels[rows], image.column.layout)
            for name, image in self._images.items()
        }
        feeds = {} if wanted is None else {WANTED: wanted}
        steps = self._settings.refinement
        for step in range(steps):
            rate = self._settings.rate * (1 - step / steps)
            self._step(session, pixels, feeds, rate, rng)
        self._free.append(session)
        return {
            name: _as_in_column(np.rint(values).astype(np.uint8), self._images[name].column.layout)
            for name, values in pixels.items()
        }

    def _step(
        self,
        session: GradientSession,
        pixels: dict[str, np.ndarray],
        feeds: Mapping[str, np.ndarray],
        rate: float,
        rng: np.random.Generator,
    ) -> None:
        """Move ``pixels``, float32 (batch, channels, height, width), in place."""
        flip, uniform = rng.random() < 0.5, rng.random(2)
        moved = {name: _moved(values, uniform, flip) for name, values in pixels.items()}
        fed = {name: self._values(name, values) for name, values in moved.items()}
        _, gradients, _ = session.run({**feeds, **fed})
        for name, image in self._images.items():
            gradient = _channels_first(gradients[name], image.column.layout)
            gradient *= image.normalization.factor[:, None, None]
            gradient = _moved(gradient, uniform, flip, back=True)
            size = gradient.shape[2:]
            smooth = np.fft.irfft2(np.fft.rfft2(gradient) * image.spectrum, size)
            spread = np.sqrt(np.square(smooth).mean(axis=(1, 2, 3), keepdims=True))
            change = (rate / np.maximum(spread, 1e-20)) * smooth
            pixels[name] = np.clip(pixels[name] - change, 0, 255).astype(np.float32)

    def _values(self, name: str, pixels: np.ndarray) -> np.ndarray:
        image = self._images[name]
        factor, offset = image.normalization.factor, image.normalization.offset
        values = pixels * factor[:, None, None] + offset[:, None, None]
        return _as_in_column(values, image.column.layout).astype(image.column.dtype)


def _moved(
    images: np.ndarray, uniform: np.ndarray, flip: bool, *, back: bool = False
) -> np.ndarray:
    """Roll (batch, channels, height, width) by up to an eighth, and mirror it; or undo that."""
    shifts = [
        int(share * (2 * (length // 8) + 1)) - length // 8
        for share, length in zip(uniform, images.shape[2:], strict=True)
    ]
    if back:
        images = images[..., ::-1] if flip else images
        return np.roll(images, [-shift for shift in shifts], (2, 3))
    images = np.roll(images, shifts, (2, 3))
    return np.ascontiguousarray(images[..., ::-1]) if flip else images


def _spatial(shape: Sequence[int], layout: Layout) -> tuple[int, int]:
    return (shape[2], shape[3]) if layout == "nchw" else (shape[1], shape[2])


def _channels_first(images: np.ndarray, layout: Layout) -> np.ndarray:
    """Return float32 (batch, channels, height, width)."""
    images = images if layout == "nchw" else images.transpose(0, 3, 1, 2)
    return np.array(images, np.float32)


def _as_in_column(images: np.ndarray, layout: Layout) -> np.ndarray:
    return images if layout == "nchw" else np.ascontiguousarray(images.transpose(0, 2, 3, 1))
