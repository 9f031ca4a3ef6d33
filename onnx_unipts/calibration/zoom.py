"""Parts of images enlarged to their size: what else the same samples could have shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from onnx_unipts.calibration.preprocessing import Layout

__all__ = ["Zoom", "zoomed"]

# The least part of an image, as a share of its area.
LEAST_AREA = 0.25


@dataclass(frozen=True)
class Zoom:
    """Which parts of the images of one batch are seen: the same for every input of a sample."""

    side: np.ndarray  # float64 (batch,), of each axis, as a share of it
    down: np.ndarray  # float64 (batch,), uniform in [0, 1): from furthest up to furthest down
    right: np.ndarray  # float64 (batch,), uniform in [0, 1): from furthest left to furthest right
    flip: np.ndarray  # bool (batch,)

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> Zoom:
        """Draw parts of ``count`` samples, of areas from `LEAST_AREA` to all."""
        area, down, right = rng.random((3, count))
        side = np.sqrt(LEAST_AREA + (1 - LEAST_AREA) * area)
        return cls(side, down, right, rng.random(count) < 0.5)


def zoomed(images: np.ndarray, zoom: Zoom, layout: Layout) -> np.ndarray:
    """Return the part of each image that ``zoom`` tells, enlarged by bicubic interpolation.

    ``images`` are uint8 or floating, (samples, channels, height, width), or (samples, height,
    width, channels) where ``layout`` is nhwc; as is what is returned.
    """
    first = images if layout == "nchw" else np.moveaxis(images, -1, 1)
    height, width = first.shape[2:]
    seen = np.empty_like(first)
    for number, side in enumerate(zoom.side):
        top, left = ((1 - side) * at[number] for at in (zoom.down, zoom.right))
        box = (left * width, top * height, (left + side) * width, (top + side) * height)
        for source, target in zip(first[number], seen[number], strict=True):
            plane = source if source.dtype == np.uint8 else source.astype(np.float32)
            part = Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC, box)
            target[...] = np.asarray(part)[:, :: -1 if zoom.flip[number] else 1]
    return seen if layout == "nchw" else np.moveaxis(seen, 1, -1)
