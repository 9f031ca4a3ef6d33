"""Calibration data from a directory of images, with one subdirectory per class if labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onnx_unipts.calibration.data import CalibrationData, ImageColumn
from onnx_unipts.calibration.directory import IMAGE_SUFFIXES, content_of, files_under
from onnx_unipts.calibration.image_decoding import Frame, decode_images, scaled
from onnx_unipts.calibration.image_labels import labels_of
from onnx_unipts.calibration.preprocessing import (
    Layout,
    Normalization,
    Preprocessing,
    channel_axis,
    image_layout,
)
from onnx_unipts.calibration.signature import InputSpec
from onnx_unipts.calibration.source import Request, Source, only_input, sources
from onnx_unipts.calibration.storage import room_for
from onnx_unipts.graph.errors import UsageError

__all__ = ["ImageDirectory"]


@sources.register("image-directory")
class ImageDirectory(Source):
    """A directory of images: PNG, JPEG, WebP and others, of any size.

    Pixels become (pixel / 255 - mean) / std. Images of another size than the model's are resized
    by the shorter side and cropped at the centre. With one subdirectory per class, labels are the
    alphabetical index of the subdirectory, or its name where all names are whole numbers; a file
    ``labels.csv`` with lines ``file,label`` overrides that.
    """

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        return content_of(source) == "images"

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        directory = Path(source)
        spec = _image_input(request)
        layout = image_layout(spec, request.options)
        paths = _find(directory)
        labels, warnings = labels_of(directory, paths)
        frame = _frame(spec, layout, request.options, paths, directory)
        if request.options.channel_order == "bgr" and frame.channels != 3:
            raise UsageError(
                f"--channel-order bgr is for 3 channels; the model's input {spec} takes "
                f"{frame.channels}"
            )
        normalization = _normalization(spec, request.options, frame.channels)
        images = _read(paths, frame, layout, request, directory)
        if images.skipped:
            warnings.append(_skipped_warning(images))
        if request.num_samples is not None and len(images.rows) < request.num_samples:
            warnings.append(
                f"{request.num_samples} samples were asked for, but {directory} holds only "
                f"{len(images.rows)} readable images"
            )
        column = ImageColumn(
            images.pixels,
            layout,
            normalization,
            spec.dtype,
            request.options.channel_order or "rgb",
            request.options.tells_channels_apart,
        )
        order = np.argsort(images.rows)
        chosen = None if labels is None else labels[images.rows[order]]
        description = _description(directory, frame, layout, request.options, normalization, chosen)
        return CalibrationData(
            {spec.name: column},
            chosen,
            description=description,
            skipped=len(images.skipped),
            warnings=warnings,
            rows=order,
        )


@dataclass(frozen=True)
class _Images:
    """What was read: uint8 pixels in the model's layout, and which of the paths they are.

    ``skipped`` are paths that could not be read, with the reason. Where some were replaced by
    others, ``rows`` are not in ascending order.
    """

    pixels: np.ndarray
    rows: np.ndarray
    skipped: list[tuple[Path, str]]


def _image_input(request: Request) -> InputSpec:
    spec = only_input(request, "a directory of images")
    if spec.dtype.kind != "f" and spec.dtype != np.uint8:
        raise UsageError(
            f"the model's input {spec} takes no images: these are fed as floating point or uint8; "
            "give --data as .npz or script.py:function"
        )
    return spec


def _find(directory: Path) -> list[Path]:
    """Return all images under ``directory``, hidden ones left out, sorted by their path."""
    try:
        paths = [path for path in files_under(directory) if path.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise UsageError(f"data {directory}: cannot be read ({error})") from error
    if not paths:
        raise UsageError(
            f"data {directory}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}) and no .npz"
        )
    return sorted(paths, key=lambda path: path.relative_to(directory).parts)


def _frame(
    spec: InputSpec,
    layout: Layout,
    options: Preprocessing,
    paths: Sequence[Path],
    directory: Path,
) -> Frame:
    channels = spec.shape[channel_axis(layout)]
    channels = channels if isinstance(channels, int) else 3
    height, width = spec.shape[2:4] if layout == "nchw" else spec.shape[1:3]
    crop = options.crop
    if crop is not None:
        for name, length in (("height", height), ("width", width)):
            if isinstance(length, int) and length != crop:
                raise UsageError(
                    f"--crop {crop} contradicts the model's input {spec}, whose {name} is {length}"
                )
        return Frame(crop, crop, channels, options.resize, keep=options.resize is None)
    if isinstance(height, int) and isinstance(width, int):
        if options.resize is not None and options.resize < min(height, width):
            raise UsageError(f"--resize {options.resize} is smaller than the model's input {spec}")
        return Frame(height, width, channels, options.resize, keep=False)
    common = _common_size(paths, options.resize, spec, directory)
    height = height if isinstance(height, int) else common[0]
    width = width if isinstance(width, int) else common[1]
    return Frame(height, width, channels, options.resize, keep=False)


def _common_size(
    paths: Sequence[Path], resize: int | None, spec: InputSpec, directory: Path
) -> tuple[int, int]:
    """Return the (height, width) that all readable images have; `UsageError` if they differ."""
    first: tuple[Path, tuple[int, int]] | None = None
    for path in paths:
        try:
            with Image.open(path) as image:
                size = image.height, image.width
        except Exception:
            continue  # such files are counted when they are decoded
        size = size if resize is None else scaled(size, resize / min(size))
        if first is None:
            first = path, size
        elif size != first[1]:
            raise UsageError(
                f"the model's input {spec} leaves the size open and the images in {directory} "
                f"differ ({first[0].name} is {first[1][1]}x{first[1][0]}, {path.name} "
                f"{size[1]}x{size[0]}); give --crop or --input-shape"
            )
    if first is None:
        raise UsageError(f"data {directory}: none of {len(paths)} images can be read")
    return first[1]


def _read(
    paths: Sequence[Path], frame: Frame, layout: Layout, request: Request, directory: Path
) -> _Images:
    """Decode as many images as asked for; those that cannot be read are replaced by others."""
    count = len(paths)
    wanted = count if request.num_samples is None else min(request.num_samples, count)
    order = np.arange(count)
    if wanted < count:
        order = np.random.default_rng(request.seed).permutation(count)
    size = (frame.height, frame.width)
    shape = (frame.channels, *size) if layout == "nchw" else (*size, frame.channels)
    pixels = room_for((wanted, *shape), np.dtype(np.uint8))
    rows: list[int] = []
    skipped: list[tuple[Path, str]] = []
    while len(rows) < wanted and len(order):
        missing = wanted - len(rows)
        taken, order = np.sort(order[:missing]), order[missing:]
        free = pixels[len(rows) :]
        channels_last = free.transpose(0, 2, 3, 1) if layout == "nchw" else free
        if request.options.channel_order == "bgr":
            channels_last = channels_last[..., ::-1]
        reasons = decode_images([paths[row] for row in taken], frame, channels_last)
        good = [at for at, reason in enumerate(reasons) if reason is None]
        for at, kept in enumerate(good):
            if at < kept:
                free[at] = free[kept]
        rows += [int(taken[at]) for at in good]
        skipped += [(paths[taken[at]], r) for at, r in enumerate(reasons) if r is not None]
    if not rows:
        path, reason = skipped[0]
        raise UsageError(
            f"data {directory}: none of {count} images can be read, the first is "
            f"{path.name} ({reason})"
        )
    pixels = pixels[: len(rows)]
    return _Images(pixels, np.array(rows), sorted(skipped))


def _normalization(spec: InputSpec, options: Preprocessing, channels: int) -> Normalization | None:
    if spec.dtype.kind == "f":
        return Normalization.of(options, channels)
    if not options.normalizes:
        return None
    raise UsageError(
        f"the model's input {spec} takes pixels as they are; drop --preprocessing, --mean and --std"
    )


def _skipped_warning(images: _Images) -> str:
    path, reason = images.skipped[0]
    return f"skipped {len(images.skipped)} unreadable images, the first is {path} ({reason})"


def _description(
    directory: Path,
    frame: Frame,
    layout: str,
    options: Preprocessing,
    normalization: Normalization | None,
    labels: np.ndarray | None,
) -> str:
    size = f"{frame.width}x{frame.height}x{frame.channels}"
    classes = "without labels" if labels is None else f"in {len(np.unique(labels))} classes"
    order = "BGR, " if options.channel_order == "bgr" else ""
    how = f"{layout.upper()}, {order}{_range(options, normalization)}"
    return f"images of {size} {classes} from {directory}, {how}"


def _range(options: Preprocessing, normalization: Normalization | None) -> str:
    """Return in words what pixels of 0..255 become."""
    if normalization is None:
        return "pixels as they are"
    mean, std, scale = options.values
    numbers = [",".join(f"{value:g}" for value in values) for values in (mean, std)]
    factor = "" if math.isclose(scale, 1 / 255) else f"pixels times {scale:g}, "
    preset = "" if options.preset is None else f" ({options.preset})"
    return f"{factor}mean {numbers[0]}, std {numbers[1]}{preset}"
