"""How pixels become a model's input: value range, size and layout."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np

from onnx_unipts.calibration.presets import find_preset
from onnx_unipts.calibration.signature import Dimension, InputSpec
from onnx_unipts.graph.errors import UsageError

__all__ = [
    "ChannelOrder",
    "Layout",
    "Normalization",
    "Preprocessing",
    "array_layout",
    "channel_axis",
    "image_layout",
]

Layout = Literal["nchw", "nhwc"]
ChannelOrder = Literal["rgb", "bgr"]

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Preprocessing:
    """What the user said about preprocessing. Value fed = (pixel * scale - mean) / std.

    ``mean`` and ``std`` hold one number per channel, or one for all (None: 0 and 1), in the order
    in which the model takes the channels; ``scale`` applies to pixels of 0..255 (None: 1 / 255).
    ``preset`` names one of `presets.PRESETS`, which stands for those that are None; of three
    channels, its numbers are in the order of the model's.
    ``channel_order`` is the model's: images are read as RGB (None), ``bgr`` swaps that. ``resize``
    is the length of the shorter side in pixels, ``crop`` that of the centre square cut out after
    it; both default to what the model's input asks for. ``layout`` overrides what the model's shape
    says. ``augment_arrays`` lets arrays that look like images be cropped and flipped as images are.
    ``tokenizer`` is the file of a tokenizer, for files of text.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    crop: int | None = None
    layout: Layout | None = None
    scale: float | None = None
    augment_arrays: bool = False
    preset: str | None = None
    channel_order: ChannelOrder | None = None
    tokenizer: str | os.PathLike[str] | None = None

    @classmethod
    def of(cls, given: Preprocessing | str | None) -> Preprocessing:
        """Return ``given``, which may be the name of a preset. Raises `UsageError`."""
        if given is None or isinstance(given, str):
            return cls(preset=given)
        if isinstance(given, Preprocessing):
            return given
        raise UsageError(
            f"preprocessing is a {type(given).__name__}; allowed: a Preprocessing, or a preset"
        )

    def __post_init__(self) -> None:
        """Raise `UsageError` for numbers that cannot be meant."""
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, Real):  # the same for all channels
                object.__setattr__(self, name, (float(value),))
        if self.scale is not None and not (isinstance(self.scale, Real) and self.scale > 0):
            raise UsageError(f"scale is {self.scale!r}; allowed: a number above 0")
        for name in ("resize", "crop"):
            if not isinstance(getattr(self, name), int | None):
                raise UsageError(f"{name} is {getattr(self, name)!r}; allowed: a number of pixels")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and not all(math.isfinite(value) for value in values):
                raise UsageError(f"--{name} holds {values}; only finite numbers are allowed")
        if self.std is not None and min(self.std, default=1) <= 0:
            raise UsageError(f"--std holds {min(self.std)}; it divides, so it must be above 0")
        for name, length in (("resize", self.resize), ("crop", self.crop)):
            if length is not None and length < 1:
                raise UsageError(f"--{name} is {length}; it must be at least 1 pixel")
        if self.resize is not None and self.crop is not None and self.resize < self.crop:
            raise UsageError(
                f"--resize {self.resize} is smaller than --crop {self.crop}; no crop fits"
            )
        if self.layout not in (None, "nchw", "nhwc"):
            raise UsageError(f"--layout is {self.layout!r}; allowed are nchw and nhwc")
        if self.channel_order not in (None, "rgb", "bgr"):
            raise UsageError(f"--channel-order is {self.channel_order!r}; allowed are rgb and bgr")
        if self.preset is not None:
            find_preset(self.preset)

    @property
    def normalizes(self) -> bool:
        """Whether anything was said about the range of values."""
        return (self.mean, self.std, self.scale, self.preset) != (None, None, None, None)

    @property
    def tells_channels_apart(self) -> bool:
        """Whether mean or std were given for each channel, and not by a preset."""
        return any(values is not None and len(set(values)) > 1 for values in (self.mean, self.std))

    @property
    def concerns_pixels(self) -> bool:
        """Whether anything was said about how pixels become values."""
        said = (self.resize, self.crop, self.channel_order)
        return self.normalizes or said != (None, None, None)

    @property
    def values(self) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        """Mean, std and scale that hold: what was said, else the preset's, else the default."""
        preset = find_preset(self.preset or "zero-one")
        order = -1 if self.channel_order == "bgr" else 1  # presets are of RGB
        return (
            preset.mean[::order] if self.mean is None else self.mean,
            preset.std[::order] if self.std is None else self.std,
            preset.scale if self.scale is None else self.scale,
        )


@dataclass(frozen=True)
class Normalization:
    """Pixels to values: ``pixel * factor + offset``, both float32 of shape (channels,)."""

    factor: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, options: Preprocessing, channels: int) -> Normalization:
        """Return the normalization; `UsageError` if mean or std do not match ``channels``."""
        given_mean, given_std, scale = options.values
        mean = _per_channel("mean", given_mean, channels)
        std = _per_channel("std", given_std, channels)
        return cls((scale / std).astype(np.float32), (-mean / std).astype(np.float32))


def image_layout(spec: InputSpec, options: Preprocessing) -> Layout:
    """Return where the channels of ``spec`` are: 1, 3 or 4 of them at axis 1 or at the last axis.

    Raises `UsageError` if the input has not four axes, or if both or neither axis fits and the
    options do not decide it.
    """
    if len(spec.shape) != 4:
        raise UsageError(
            f"the model's input {spec} takes no images: these need four axes; "
            "give --data as .npz or script.py:function"
        )
    fits = _fitting_layouts(spec.shape)
    if options.layout is None:
        if len(fits) == 1:
            return fits[0]
        what = "both axis 1 and the last axis" if fits else "neither axis 1 nor the last axis"
        raise UsageError(
            f"the layout of the model's input {spec} is not clear: {what} could hold 1, 3 or 4 "
            "channels; give --layout nchw or --layout nhwc"
        )
    channels = spec.shape[channel_axis(options.layout)]
    if isinstance(channels, int) and channels not in _CHANNELS:
        raise UsageError(
            f"--layout {options.layout} contradicts the model's input {spec}: it would have "
            f"{channels} channels, images have 1, 3 or 4; leave --layout out"
        )
    return options.layout


def array_layout(
    shape: Sequence[Dimension], dtype: np.dtype, options: Preprocessing
) -> Layout | None:
    """Return the layout of arrays that look like images: 4-D, floating or uint8, 1 or 3 channels.

    None if they do not, or if both axes could hold the channels and the options do not decide it.
    """
    if len(shape) != 4 or not (dtype.kind == "f" or dtype == np.uint8):
        return None
    fits = [layout for layout in _fitting_layouts(shape) if shape[channel_axis(layout)] != 4]
    if options.layout is not None:
        return options.layout if options.layout in fits else None
    return fits[0] if len(fits) == 1 else None


def channel_axis(layout: Layout) -> int:
    """Return the axis of a batch of images that holds the channels."""
    return 1 if layout == "nchw" else 3


def _fitting_layouts(shape: Sequence[Dimension]) -> list[Layout]:
    layouts: list[Layout] = ["nchw", "nhwc"]
    return [layout for layout in layouts if shape[channel_axis(layout)] in _CHANNELS]


def _per_channel(name: str, values: tuple[float, ...], channels: int) -> np.ndarray:
    if len(values) not in (1, channels):
        raise UsageError(
            f"--{name} has {len(values)} numbers, but the model's input has {channels} channels; "
            "give one number per channel, or one for all"
        )
    return np.broadcast_to(np.asarray(values, np.float64), (channels,))
