"""Calibration data made up from the model's signature, for those who have none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import ArrayColumn, CalibrationData, Column, ImageColumn
from onnx_unipts.calibration.preprocessing import (
    Layout,
    Normalization,
    array_layout,
    channel_axis,
)
from onnx_unipts.calibration.signature import InputSpec
from onnx_unipts.calibration.source import Request, Source, is_synthetic, sources
from onnx_unipts.calibration.structured_images import StructuredImages
from onnx_unipts.graph.errors import UsageError

__all__ = ["Synthetic"]

_SAMPLES = 1024
_IMAGES = 8192  # enough to train on: made-up images teach less than photographs
_MEASURED = 256  # images whose mean and standard deviation are those of all
_MEMORY = 256 * 2**20  # bytes that the default number of samples may take
_SMALL = 10  # integers are drawn below this: nearly every vocabulary is larger


@sources.register("synthetic")
class Synthetic(Source):
    """Inputs drawn by the seed: structured images for images, normal noise for other floats.

    Integers are small and within the table that they index, masks are ones, booleans are true.
    Dynamic axes but the first are guessed where --input-shape does not say them.
    """

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        return is_synthetic(source)

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        guesses: dict[str, int] = {}
        shapes = [_sample_shape(spec, request, guesses) for spec in request.signature]
        count = request.num_samples or _default_count(request, shapes)
        rng = np.random.default_rng(request.seed)
        columns = {
            spec.name: _column(spec, (count, *shape), request, rng)
            for spec, shape in zip(request.signature, shapes, strict=True)
        }
        return CalibrationData(
            columns,
            description=_description(columns, shapes, request.seed, guesses),
            warnings=[
                f"no calibration data given: {count} synthetic inputs stand in for it. They cost "
                "accuracy, much of it at high sparsity, and no accuracy can be measured on them; a "
                "few hundred real inputs without labels (--data) do far better"
            ],
        )


def _sample_shape(spec: InputSpec, request: Request, guesses: dict[str, int]) -> tuple[int, ...]:
    """Return the shape of one sample, and note in ``guesses`` what stood for a dynamic axis."""
    layout = array_layout(spec.shape, spec.dtype, request.options)
    channels = None if layout is None else spec.shape[channel_axis(layout)]
    length = {None: 16, 1: 32, 3: 224}[channels if isinstance(channels, int) else None]
    shape = []
    for axis, size in enumerate(spec.sample_shape, start=0 if spec.whole else 1):
        if not isinstance(size, int):
            symbol = size or f"axis {axis} of {spec.name}"
            size = guesses.setdefault(symbol, length)
        shape.append(size)
    return tuple(shape)


def _default_count(request: Request, shapes: Sequence[tuple[int, ...]]) -> int:
    sizes = [math.prod(shape) * 4 for shape in shapes]
    images = all(array_layout(s.shape, s.dtype, request.options) for s in request.signature)
    return max(1, min(_IMAGES if images else _SAMPLES, _MEMORY // max(1, sum(sizes))))


def _column(
    spec: InputSpec, shape: tuple[int, ...], request: Request, rng: np.random.Generator
) -> Column:
    layout = array_layout(shape, spec.dtype, request.options)
    if layout is not None:
        return _images(spec, shape, layout, request, rng)
    return ArrayColumn(_values(spec, shape, rng))


def _images(
    spec: InputSpec,
    shape: tuple[int, ...],
    layout: Layout,
    request: Request,
    rng: np.random.Generator,
) -> ImageColumn:
    channels = shape[channel_axis(layout)]
    seed = int(rng.integers(2**63))
    pixels = StructuredImages(shape, layout, seed)
    if spec.dtype == np.uint8:
        normalization = None
    elif request.options.normalizes:
        normalization = Normalization.of(request.options, channels)
    else:
        normalization = _standardized(pixels[np.arange(min(shape[0], _MEASURED))], channels)
    return ImageColumn(pixels, layout, normalization, spec.dtype)


def _standardized(pixels: np.ndarray, channels: int) -> Normalization:
    """Return what brings ``pixels`` to mean 0 and standard deviation 1 over all of them."""
    mean, std = pixels.mean(dtype=np.float64), max(float(pixels.std(dtype=np.float64)), 1.0)
    return Normalization(
        np.full(channels, 1 / std, np.float32), np.full(channels, -mean / std, np.float32)
    )


def _values(spec: InputSpec, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    name, dtype = spec.name.lower(), spec.dtype
    if dtype.kind == "b" or "mask" in name:
        return np.ones(shape, dtype)
    if "position" in name and dtype.kind in "iu":
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(dtype)
    if "token_type" in name or "segment" in name:
        return np.zeros(shape, dtype)
    if spec.whole and spec.choice is not None:
        return np.full(shape, spec.choice, dtype)
    if dtype.kind in "iu" and dtype.itemsize == 1:  # quantised activations use the whole range
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if dtype.kind in "iu":
        return rng.integers(0, spec.limit or _SMALL, shape).astype(dtype)
    if dtype.kind == "O":
        raise UsageError(
            f"the model's input {spec} takes text, for which no synthetic inputs can be made; give "
            "--data"
        )
    return rng.standard_normal(shape, np.float32).astype(dtype)


def _description(
    columns: dict[str, Column],
    shapes: Sequence[tuple[int, ...]],
    seed: int,
    guesses: dict[str, int],
) -> str:
    parts = []
    for (name, column), shape in zip(columns.items(), shapes, strict=True):
        what = "structured images" if isinstance(column, ImageColumn) else "values"
        parts.append(f"{what} of {'x'.join(map(str, shape)) or 'one number'} for {name}")
    text = f"synthetic samples by seed {seed}: {', '.join(parts)}"
    if guesses:
        guessed = ", ".join(f"{symbol} = {size}" for symbol, size in guesses.items())
        text += f"; guessed, as --input-shape does not say: {guessed}"
    return text
