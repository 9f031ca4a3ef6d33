"""Recognising fixed bases: tensors that look like weights and were computed, not learned.

The front ends of audio models hold them: the windowed sinusoids of an STFT or constant-Q transform
as the filters of a Conv or the columns of a MatMul, mel and ERB filter banks, windows and low-pass
filters. The signs are ones that no training leaves behind: every filter narrow in frequency with
the frequencies in order, exact symmetry, one hump per band.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

__all__ = ["describe_basis"]

# Shorter filters can be narrow or symmetric by chance.
SINUSOID_LENGTH = 64
SYMMETRIC_LENGTH = 16
BANDS = 8
# Of a filter's energy, this share within 3 bins of its peak makes it a windowed sinusoid; the main
# lobe of a Hann window is 2 bins to either side.
NARROW_SHARE = 0.95
NARROW_BINS = 3
SAMPLES = 8


def describe_basis(operator: str, shape: tuple[int, ...], read: Callable[[], np.ndarray]) -> str:
    """Say what fixed basis the weight of ``operator`` is; an empty string for any other weight.

    ``read`` returns the array of ``shape`` and is called only where the shape allows a basis.
    """
    for filters in _as_filters(operator, shape, read):
        if _are_sinusoids(filters):
            return "fixed basis: windowed sinusoids, as of a Fourier transform"
        if _are_symmetric(filters):
            return "fixed basis: a symmetric window or low-pass filter"
    for bands in _as_bands(shape, read):
        if _are_bands(bands):
            return "fixed basis: a filter bank, one hump per band"
    return ""


def _as_filters(
    operator: str, shape: tuple[int, ...], read: Callable[[], np.ndarray]
) -> list[np.ndarray]:
    """Return the views (filters, length) of a weight that may be filters of one signal."""
    if operator in ("Conv", "ConvTranspose"):
        spatial = shape[2:]
        if shape[1] != 1 or max(spatial, default=0) != math.prod(spatial):
            return []
        return [read().reshape(shape[0], -1)] if max(spatial) >= SYMMETRIC_LENGTH else []
    if len(shape) != 2 or min(shape) < SINUSOID_LENGTH // 2:
        return []
    array = read()
    return [view for view in (array, array.T) if view.shape[1] >= SINUSOID_LENGTH]


def _as_bands(shape: tuple[int, ...], read: Callable[[], np.ndarray]) -> list[np.ndarray]:
    """Return the views (bands, frequencies) of a weight that may be a filter bank."""
    if len(shape) < 2 or min(shape[:2]) < BANDS or math.prod(shape[2:]) != 1:
        return []
    array = read().reshape(shape[:2])
    return [array, array.T]


def _are_sinusoids(filters: np.ndarray) -> bool:
    if filters.shape[1] < SINUSOID_LENGTH or len(filters) < BANDS:
        return False
    sample = filters[:: max(len(filters) // SAMPLES, 1)]
    if not all(share >= NARROW_SHARE for _, share in _peaks(sample)):
        return False
    peaks = _peaks(filters)
    frequencies = np.array([peak for peak, _ in peaks])
    # In order once, or twice where the sines stand behind the cosines, then up or down alike.
    steps = np.diff(frequencies)
    breaks = min(np.count_nonzero(steps < 0), np.count_nonzero(steps > 0))
    in_order = bool(breaks <= 1) and len(np.unique(frequencies)) >= BANDS
    return in_order and all(share >= NARROW_SHARE for _, share in peaks)


def _peaks(filters: np.ndarray) -> list[tuple[float, float]]:
    """Return for each filter that is not zero the peak, in bins, and the share of energy there."""
    padding = 4
    filters = filters.astype(np.float64)
    spectrum = np.abs(np.fft.rfft(filters, n=padding * filters.shape[1], axis=1)) ** 2
    energy = spectrum.sum(axis=1)
    peaks = []
    for row, total in zip(spectrum, energy, strict=True):
        if total <= 1e-9 * energy.max():
            continue
        peak, reach = int(row.argmax()), padding * NARROW_BINS
        peaks.append((peak / padding, row[max(peak - reach, 0) : peak + reach + 1].sum() / total))
    return peaks


def _are_symmetric(filters: np.ndarray) -> bool:
    """Tell whether every filter is the same from both ends, and not constant."""
    filters = filters.astype(np.float64)
    scale = np.abs(filters).max(axis=1, keepdims=True)
    if not scale.all() or (filters == filters[:, :1]).all():
        return False
    return bool((np.abs(filters - filters[:, ::-1]) <= 1e-4 * scale).all())


def _are_bands(bands: np.ndarray) -> bool:
    """Tell whether every row is one hump of positive numbers among zeros, the humps in order."""
    if (bands[0] < 0).any() or np.count_nonzero(bands[0]) > bands.shape[1] // 2:
        return False
    if (bands < 0).any() or np.count_nonzero(bands) > bands.size // 2:
        return False
    centres = []
    for band in bands.astype(np.float64):
        support = np.flatnonzero(band)
        if not len(support):
            continue
        hump = band[support[0] : support[-1] + 1]
        top, slack = int(hump.argmax()), 1e-6 * hump.max()
        rising, falling = np.diff(hump[: top + 1]), np.diff(hump[top:])
        if (hump == 0).any() or (rising < -slack).any() or (falling > slack).any():
            return False
        centres.append(support.mean())
    return len(centres) >= BANDS and bool((np.diff(centres) >= 0).all())
