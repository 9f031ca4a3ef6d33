"""What the report's figures need beyond its numbers: weight histograms and samples of outputs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from onnx_unipts.targets import Target, softmax

__all__ = ["output_samples", "picked_samples", "weight_histograms"]

BINS = 41
# Outliers beyond this share of a layer's weights are counted in the outermost bins.
SHOWN_SHARE = 0.995
EVEN_SAMPLES = 8
DIFFERENT_SAMPLES = 4
LARGEST_THUMBNAIL = 128

Outputs = Mapping[str, np.ndarray]


def weight_histograms(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Return the histogram of every weight before and after, on the same bins.

    ``limit`` is the value at either end; ``after`` leaves out what is exactly zero, which ``zeros``
    counts.
    """
    return [_histogram(name, before[name], after[name]) for name in before]


def picked_samples(dense: np.ndarray | None, sparse: np.ndarray | None, count: int) -> list[int]:
    """Return the samples to show: some spread evenly, then some whose top classes differ.

    ``dense`` and ``sparse`` are class scores, compared where they are (samples, classes).
    """
    even = np.unique(np.linspace(0, count - 1, min(EVEN_SAMPLES, count)).round().astype(int))
    if dense is None or sparse is None or dense.ndim != 2:
        return even.tolist()
    differ = np.flatnonzero(dense.argmax(axis=-1) != sparse.argmax(axis=-1))
    others = [int(i) for i in differ if i not in set(even.tolist())]
    return [*even.tolist(), *others[:DIFFERENT_SAMPLES]]


def output_samples(
    inputs: Outputs,
    targets: Sequence[Target],
    outputs: Mapping[str, Outputs],
    labels: np.ndarray | None,
    samples: Sequence[int],
) -> list[dict[str, Any]]:
    """Return a picture of each sample and what each stage makes of it; empty if no input is images.

    ``inputs`` are the model's inputs for ``samples`` alone; ``outputs`` hold all samples, by stage
    and output name. Class scores become the top class with its probability, maps of class scores
    and images become pictures; other outputs are left out.
    """
    pictures = next((p for v in inputs.values() if (p := _as_images(v)) is not None), None)
    target = next((t for t in targets if _is_shown(t, outputs)), None)
    if pictures is None or target is None:
        return []
    shown = {
        stage: _described(target, values[target.measured][list(samples)])
        for stage, values in outputs.items()
    }
    return [
        {
            "sample": int(sample),
            "image": _png(picture),
            "label": None if labels is None else int(labels[sample]),
            **{stage: described[i] for stage, described in shown.items()},
        }
        for i, (sample, picture) in enumerate(zip(samples, pictures, strict=True))
    ]


def _histogram(name: str, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    dense, sparse = (t.astype(np.float32).reshape(-1) for t in (before, after))
    limit = float(np.quantile(np.abs(dense), SHOWN_SHARE)) or float(np.abs(dense).max()) or 1.0
    kept = sparse[sparse != 0]
    return {
        "name": name,
        "limit": limit,
        "before": _counts(dense, limit),
        "after": _counts(kept, limit),
        "zeros": int(sparse.size - kept.size),
    }


def _counts(values: np.ndarray, limit: float) -> list[int]:
    inside = np.clip(values, -limit, limit)
    return np.histogram(inside, bins=BINS, range=(-limit, limit))[0].tolist()


def _is_shown(target: Target, outputs: Mapping[str, Outputs]) -> bool:
    first = next(iter(outputs.values()))[target.measured]
    if target.kind == "classes":
        scores = target.scores(first[:1])
        return scores.ndim == 2 or (scores.ndim == 4 and target.axis in (1, -3))
    return _as_images(first[:1]) is not None


def _described(target: Target, values: np.ndarray) -> list[dict[str, Any]]:
    if target.kind != "classes":
        images = _as_images(values)
        assert images is not None
        return [{"image": _png(image)} for image in images]
    scores = target.scores(values).astype(np.float64)
    if scores.ndim == 4:
        return [{"image": _png(_class_map(s))} for s in scores]
    shares = softmax(scores, axis=-1)
    return [{"class": int(s.argmax()), "confidence": float(s.max())} for s in shares]


def _as_images(values: np.ndarray) -> np.ndarray | None:
    """Return uint8 (samples, height, width, channels) where ``values`` can be images."""
    if values.ndim != 4 or min(values.shape[2], sorted(values.shape[1:])[1]) < 4:
        return None
    if values.shape[1] in (1, 3):
        values = values.transpose(0, 2, 3, 1)
    if values.shape[3] not in (1, 3):
        return None
    values = values.astype(np.float32)
    low = values.min(axis=(1, 2, 3), keepdims=True)
    span = np.maximum(values.max(axis=(1, 2, 3), keepdims=True) - low, 1e-12)
    return ((values - low) / span * 255).round().astype(np.uint8)


def _class_map(scores: np.ndarray) -> np.ndarray:
    """Return the picture of the top class at every position of (classes, height, width)."""
    classes = scores.argmax(axis=0)
    hue = (classes * 0.61803398875) % 1.0
    channels = [0.55 + 0.35 * np.cos(2 * np.pi * (hue + shift)) for shift in (0.0, 1 / 3, 2 / 3)]
    picture = np.stack(channels, axis=-1) * (classes > 0)[..., None]
    return (255 * picture).round().astype(np.uint8)


def _png(picture: np.ndarray) -> str:
    """Return ``picture`` as the URI of a PNG file that the page holds in itself."""
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    image.thumbnail((LARGEST_THUMBNAIL, LARGEST_THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
