"""What images would be if they had been prepared otherwise: for finding mistakes, not for use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnx_unipts.calibration.data import ArrayColumn, CalibrationData, ImageColumn
from onnx_unipts.calibration.preprocessing import (
    ChannelOrder,
    Layout,
    Normalization,
    Preprocessing,
    array_layout,
    channel_axis,
)
from onnx_unipts.calibration.presets import PRESETS

__all__ = ["Alternative", "alternatives"]


@dataclass(frozen=True)
class Alternative:
    """Another preparation: what turns a batch into one, and whether its values are larger or
    smaller then.
    """

    prepare: Callable[[np.ndarray], np.ndarray]
    rescales: bool = False


# Values closer than this, in units of their spread, are the same preprocessing.
SAME = 0.02


def alternatives(data: CalibrationData) -> dict[str, Alternative]:
    """Return what else the images of ``data`` could be, by the remedy in words.

    Each alternative turns a batch as it is fed into what it would be with another preset or with
    its channels swapped. Empty unless the model has one input and takes images of floats. Images
    from arrays are only given another range where they hold 0..1 or 0..255.
    """
    if len(data.input_names) != 1:
        return {}
    column = data.column(data.input_names[0])
    if isinstance(column, ImageColumn):
        layout: Layout | None = column.layout
        normalization = column.normalization
        swap = f"--channel-order {'rgb' if column.order == 'bgr' else 'bgr'}"
        if column.told_apart:
            swap += ", and the numbers of --mean and --std in that order"
    elif isinstance(column, ArrayColumn):
        layout = array_layout(column.values.shape, column.values.dtype, Preprocessing())
        normalization = None if layout is None else _guessed(column.values, layout)
        swap = "the channels of its images in the opposite order (RGB, BGR)"
    else:
        return {}
    if layout is None or column.batch(np.arange(1)).dtype.kind != "f":
        return {}
    found: dict[str, Alternative] = {}
    channels = column.batch(np.arange(1)).shape[channel_axis(layout)]
    if channels == 3:
        found[swap] = _swapped(layout)
    if normalization is not None:
        order = column.order if isinstance(column, ImageColumn) else "rgb"
        found |= _other_ranges(normalization, layout, channels, order)
    return found


def _swapped(layout: Layout) -> Alternative:
    def swap(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.flip(values, channel_axis(layout)))

    return Alternative(swap)


def _other_ranges(
    given: Normalization, layout: Layout, channels: int, order: ChannelOrder
) -> dict[str, Alternative]:
    found: dict[str, Alternative] = {}
    seen = [given]
    for name, preset in PRESETS.items():
        if len(preset.mean) not in (1, channels):
            continue
        other = Normalization.of(Preprocessing(preset=name, channel_order=order), channels)
        if not any(_alike(other, normalization) for normalization in seen):
            seen.append(other)
            found[f"--preprocessing {name}"] = _normalized_by(other, given, layout)
    return found


def _alike(one: Normalization, other: Normalization) -> bool:
    """Say whether both give black and white nearly the same values."""
    spread = np.abs(other.factor * 255)
    ends = (
        (one.offset - other.offset) / spread,
        (one.offset + 255 * one.factor - other.offset - 255 * other.factor) / spread,
    )
    return all(float(np.abs(end).max()) < SAME for end in ends)


def _normalized_by(other: Normalization, given: Normalization, layout: Layout) -> Alternative:
    shape = (-1, 1, 1) if layout == "nchw" else (-1,)

    def normalize(values: np.ndarray) -> np.ndarray:
        pixels = (values - given.offset.reshape(shape)) / given.factor.reshape(shape)
        again = pixels * other.factor.reshape(shape) + other.offset.reshape(shape)
        return again.astype(values.dtype)

    return Alternative(normalize, rescales=True)


def _guessed(values: np.ndarray, layout: Layout) -> Normalization | None:
    """Return what made ``values`` of pixels if they lie in 0..1 or 0..255, else None."""
    few = values[:64]
    channels = values.shape[channel_axis(layout)]
    low, high = float(few.min()), float(few.max())
    if low < 0 or high > 255 or 1 < high <= 2 or high == low:
        return None
    preset = "zero-one" if high <= 1 else "zero-255"
    return Normalization.of(Preprocessing(preset=preset), channels)
