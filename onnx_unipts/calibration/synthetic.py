"""Calibration data made up from the model's signature, for those who have none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from onnx_unipts.calibration.data import ArrayColumn, CalibrationData, Column, ImageColumn
from onnx_unipts.calibration.preprocessing import (
    Layout,
    Normalization,
    array_layout,
    channel_axis,
)
from onnx_unipts.calibration.signature import InputSpec
from onnx_unipts.calibration.source import Request, Source, is_synthetic, sources
from onnx_unipts.graph.errors import UsageError

__all__ = ["Synthetic", "dead_leaves"]

_SAMPLES = 1024
_MEMORY = 256 * 2**20  # bytes that the default number of samples may take
_SMALL = 10  # integers are drawn below this: nearly every vocabulary is larger
_LEAVES = 40


@sources.register("synthetic")
class Synthetic(Source):
    """Inputs drawn by the seed: dead leaves for images, normal noise for other floats.

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
        count = request.num_samples or _default_count(request.signature, shapes)
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


def dead_leaves(
    count: int, height: int, width: int, channels: int, rng: np.random.Generator
) -> np.ndarray:
    """Return images of overlapping discs in uneven light: uint8 (count, height, width, channels).

    ``channels`` is 1 or 3. The sizes follow a power law, which gives edges at all scales and the
    spectrum of natural images (Lee, Mumford and Huang, Occlusion models for natural images, IJCV
    2001).
    """
    smallest, largest = min(height, width) / 16, min(height, width) / 2
    # Radii with density r^-3 between the two bounds, by inversion of their distribution.
    share = rng.random((count, _LEAVES))
    radii = (smallest**-2 + share * (largest**-2 - smallest**-2)) ** -0.5
    x, y = rng.random((count, _LEAVES)) * width, rng.random((count, _LEAVES)) * height
    boxes = np.stack([x - radii, y - radii, x + radii, y + radii], axis=-1).tolist()
    colours = _colours(count, channels, rng)
    slopes = rng.normal(0, 30, (count, 2, 1)).astype(np.float32)
    down, right = (np.linspace(-1, 1, size, dtype=np.float32) for size in (height, width))
    images = np.empty((count, height, width, channels), np.uint8)
    for at in range(count):
        first, *others = colours[at]
        picture = Image.new("L" if channels == 1 else "RGB", (width, height), first)
        canvas = ImageDraw.Draw(picture)
        for box, colour in zip(boxes[at], others, strict=True):
            canvas.ellipse(box, fill=colour)
        light = np.add.outer(down * slopes[at, 0], right * slopes[at, 1])
        lit = np.asarray(picture, np.float32).reshape(height, width, channels) + light[:, :, None]
        images[at] = np.clip(lit, 0, 255)
    return images


def _colours(count: int, channels: int, rng: np.random.Generator) -> list[list[tuple[int, ...]]]:
    """Return for each image the colour of its ground and of each leaf.

    Channels go together and images differ in brightness and tint, as photographs do.
    """
    shape = (count, _LEAVES + 1)
    colours = rng.normal(118, 30, (count, 1, 1)) + rng.normal(0, 50, (*shape, 1))
    if channels > 1:
        tint = rng.normal(0, 12, (count, 1, channels)) + rng.normal(0, 22, (*shape, channels))
        colours = colours + tint
    rounded = np.clip(np.rint(colours), 0, 255).astype(int).tolist()
    return [[tuple(colour) for colour in image] for image in rounded]


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


def _default_count(signature: Sequence[InputSpec], shapes: Sequence[tuple[int, ...]]) -> int:
    sizes = [math.prod(shape) * 4 for shape in shapes]
    return max(1, min(_SAMPLES, _MEMORY // max(1, sum(sizes))))


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
    count, channels = shape[0], shape[channel_axis(layout)]
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    pixels = dead_leaves(count, height, width, channels, rng)
    if spec.dtype == np.uint8:
        normalization = None
    elif request.options.concerns_pixels:
        normalization = Normalization.of(request.options, channels)
    else:
        normalization = _standardized(pixels, channels)
    if layout == "nchw":
        pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
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
        what = "images (dead leaves)" if isinstance(column, ImageColumn) else "values"
        parts.append(f"{what} of {'x'.join(map(str, shape)) or 'one number'} for {name}")
    text = f"synthetic samples by seed {seed}: {', '.join(parts)}"
    if guesses:
        guessed = ", ".join(f"{symbol} = {size}" for symbol, size in guesses.items())
        text += f"; guessed, as --input-shape does not say: {guessed}"
    return text
