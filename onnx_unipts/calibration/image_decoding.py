"""From image files to pixels of one size: decoded in threads, resized, cropped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from onnx_unipts.cores import available_cores

__all__ = ["Frame", "decode_images", "scaled"]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Images that would be so many times as large as the frame are cut before they are resized.
LONGEST = 64
_CHUNK = 64  # images per task of the thread pool: small ones take less time than a task costs


@dataclass(frozen=True)
class Frame:
    """The size every image is brought to, and how."""

    height: int
    width: int
    channels: int
    resize: int | None  # the shorter side before the crop; None: only if the size differs
    keep: bool  # crop without resizing where the image is large enough


def decode_images(paths: Sequence[Path], frame: Frame, pixels: np.ndarray) -> list[str | None]:
    """Fill ``pixels``, uint8 (images, height, width, channels), and return what could not be read.

    For each path the reason in one line, None where there is none.
    """

    def decode_chunk(start: int) -> list[str | None]:
        chunk = paths[start : start + _CHUNK]
        return [_decode_one(p, frame, pixels[start + at]) for at, p in enumerate(chunk)]

    with ThreadPoolExecutor(available_cores()) as pool:
        chunks: Iterable[list[str | None]] = pool.map(decode_chunk, range(0, len(paths), _CHUNK))
        return [reason for chunk in chunks for reason in chunk]


def _decode_one(path: Path, frame: Frame, target: np.ndarray) -> str | None:
    try:
        with Image.open(path) as image:
            target[...] = np.asarray(_fitted(image, frame)).reshape(target.shape)
    # Pillow's decoders raise whatever they like on damaged files: OSError, SyntaxError, ...
    except Exception as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def _fitted(image: Image.Image, frame: Frame) -> Image.Image:
    """Return ``image`` resized, cropped and converted to the frame's size and channels."""
    mode = _MODES[frame.channels]
    size = _resized(image.height, image.width, frame)
    if size != (image.height, image.width):
        # JPEG files decode faster at 1/2, 1/4 or 1/8; twice the final size is sharp enough.
        image.draft(None, (2 * size[1], 2 * size[0]))
    picture = _eight_bits(image)
    picture = picture if picture.mode == mode else picture.convert(mode)
    top, left = (size[0] - frame.height) // 2, (size[1] - frame.width) // 2
    if size[0] * size[1] > LONGEST * frame.height * frame.width:
        return _cut_first(picture, size, (top, left), frame)
    if size != (picture.height, picture.width):
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    if size == (frame.height, frame.width):
        return picture
    return picture.crop((left, top, left + frame.width, top + frame.height))


def _cut_first(
    picture: Image.Image, size: tuple[int, int], corner: tuple[int, int], frame: Frame
) -> Image.Image:
    """Return what lies in the frame at ``corner`` of the ``picture`` brought to ``size``."""
    down, across = picture.height / size[0], picture.width / size[1]
    top, left = corner[0] * down, corner[1] * across
    box = (left, top, left + frame.width * across, top + frame.height * down)
    return picture.resize((frame.width, frame.height), Image.Resampling.BILINEAR, box)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return ``image`` with its 16-bit grey values divided by 256: Pillow would cut them at 255.

    Raises `ValueError` for values whose range is not known.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    if image.mode.startswith("I;16") or image.format in ("PPM", "PNG"):
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F" and values.min() >= 0 and values.max() <= 1:
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if values.min() >= 0 and (values.max() == 0 or 1 < values.max() <= 255):
        return Image.fromarray(np.rint(values).astype(np.uint8))
    raise ValueError(
        f"grey values of {values.min():g} to {values.max():g} have no known range; convert the "
        "image to 8 or 16 bits"
    )


def _resized(height: int, width: int, frame: Frame) -> tuple[int, int]:
    """Return the (height, width) before the crop."""
    cover = max(frame.height / height, frame.width / width)
    if frame.resize is not None:
        # Never smaller than the crop, however long and thin the image.
        return scaled((height, width), max(frame.resize / min(height, width), cover))
    if frame.keep and cover <= 1:
        return height, width
    return scaled((height, width), cover)


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return (height, width) times ``factor``, rounded."""
    return round(size[0] * factor), round(size[1] * factor)
