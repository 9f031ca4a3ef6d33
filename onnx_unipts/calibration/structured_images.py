"""Made-up images with the statistics of photographs: overlapping shapes with fractal textures."""

from __future__ import annotations

import math
import threading

import numpy as np
from PIL import Image, ImageDraw

from onnx_unipts.calibration.preprocessing import Layout

__all__ = ["StructuredImages", "power_law"]

_FINER = 2  # shapes are drawn at this multiple of the size: edges come out soft
_FEWEST, _MOST = 2, 40  # shapes in an image
_MANY = 8  # of more shapes than this, most are small
_CORNERS = 24  # of an ellipse


class StructuredImages:
    """Images that are made when they are first asked for, each by its own number.

    uint8 of ``shape`` (samples, channels, height, width), or (samples, height, width, channels) if
    ``layout`` is nhwc; 1 or 3 channels. Indexed by int64 arrays along the first axis.

    Dead leaves of ellipses and polygons, few and large or many and small; the sizes of many follow
    a power law, which gives edges at all scales (Lee, Mumford and Huang, Occlusion models for
    natural images, IJCV 2001). On them lie two textures of random phases whose amplitudes fall as
    1 / f^0.8 to 1 / f^1.6, like those of photographs (Baradad et al., Learning to see by looking at
    noise, arXiv 2106.05963).
    """

    def __init__(self, shape: tuple[int, ...], layout: Layout, seed: int) -> None:
        self._images = np.empty(shape, np.uint8)
        self._made = np.zeros(shape[0], bool)
        self._layout = layout
        self._seed = seed
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        with self._lock:
            for row in np.unique(rows[~self._made[rows]]):
                made = _image(self._shape, np.random.default_rng([self._seed, int(row)]))
                self._images[row] = made.transpose(2, 0, 1) if self._layout == "nchw" else made
                self._made[row] = True
        return self._images[rows]

    @property
    def _shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        first, second, third = self._images.shape[1:]
        return (second, third, first) if self._layout == "nchw" else (first, second, third)


def _image(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Return an image of ``shape``: height, width, channels."""
    flat, side = _shapes(*shape, rng)
    strengths = rng.gamma(1.5, 12, 2)
    for strength, where in zip(strengths, (side, 1 - side), strict=True):
        flat += strength * where[:, :, None] * _texture(*shape, rng)
    return np.clip(np.rint(flat), 0, 255).astype(np.uint8)


def power_law(height: int, width: int, exponent: float) -> np.ndarray:
    """Return amplitudes 1 / f^exponent of `numpy.fft.rfft2`, float32 (height, width // 2 + 1)."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1 / max(height, width)
    amplitude = frequency**-exponent
    scaled: np.ndarray = amplitude / np.sqrt(np.square(amplitude).mean())
    return scaled.astype(np.float32)


def _texture(height: int, width: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Return float64 (height, width, channels) of mean 0 and standard deviation 1."""
    noise = rng.standard_normal((height, width, channels))
    amplitude = power_law(height, width, rng.uniform(0.8, 1.6))[:, :, None]
    waves = np.fft.rfft2(noise, axes=(0, 1)) * amplitude
    texture = np.fft.irfft2(waves, (height, width), axes=(0, 1))
    # Channels go together, as they do in photographs, in each image to another degree.
    texture = texture @ (np.eye(channels) * rng.uniform(0.1, 0.6) + rng.uniform(0.4, 1))
    texture -= texture.mean(axis=(0, 1))
    return np.asarray(texture / max(float(texture.std()), 1e-9))


def _shapes(
    height: int, width: int, channels: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, float64 (height, width, channels), and the share of half of its shapes.

    The latter, float64 (height, width), lies in 0..1: textures differ from shape to shape.
    """
    size = (width * _FINER, height * _FINER)
    brightness = rng.normal(118, 35)
    count = int(math.exp(rng.uniform(math.log(_FEWEST), math.log(_MOST))))
    ground = _colour(brightness, channels, rng)
    picture = Image.new("L" if channels == 1 else "RGB", size, ground)
    half = Image.new("L", size)
    canvases = ImageDraw.Draw(picture), ImageDraw.Draw(half)
    for _ in range(count):
        outline = _outline(size, count, rng)
        canvases[0].polygon(outline, fill=_colour(brightness, channels, rng))
        canvases[1].polygon(outline, fill=int(rng.integers(2)) * 255)
    small = [
        np.asarray(each.resize((width, height), Image.Resampling.BOX), np.float64)
        for each in (picture, half)
    ]
    return small[0].reshape(height, width, channels), small[1] / 255


def _colour(brightness: float, channels: int, rng: np.random.Generator) -> tuple[int, ...] | int:
    colour = brightness + rng.normal(0, 50) + rng.normal(0, 25, channels)
    numbers = tuple(int(value) for value in np.clip(colour, 0, 255))
    return numbers[0] if channels == 1 else numbers


def _outline(
    size: tuple[int, int], count: int, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Return the corners of an ellipse or a polygon of three to eight of them."""
    shorter = min(size)
    if count > _MANY:
        # Radii of density r^-3 between two bounds, by inversion of their distribution.
        low, high = (shorter / 20) ** -2, (shorter * 0.7) ** -2
        radius = (low + rng.random() * (high - low)) ** -0.5
    else:
        radius = rng.uniform(0.15, 0.6) * shorter
    centre = rng.random(2) * size
    if rng.random() < 0.6:
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = radius * rng.uniform(0.5, 1.2, corners)
    else:
        angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        reach = np.full(_CORNERS, radius)
    aspect, turn = math.exp(rng.normal(0, 0.4)), rng.uniform(0, np.pi)
    x, y = reach * np.cos(angles) * aspect, reach * np.sin(angles) / aspect
    across = centre[0] + x * math.cos(turn) - y * math.sin(turn)
    down = centre[1] + x * math.sin(turn) + y * math.cos(turn)
    return list(zip(across.tolist(), down.tolist(), strict=True))
