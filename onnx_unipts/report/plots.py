"""The geometry of plots: series as paths of inline SVG, axes as ticks that stay text.

Paths live in a square of 100 by 100 that the page stretches to any width; strokes keep their width
(``vector-effect``) and the texts stand outside, so that a plot is as readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Line", "Plot", "Tick", "histogram_path", "line_plot", "smoothed", "ticks"]

# More points than a plot is wide, in pixels, cannot be seen.
MOST_POINTS = 400
# From this ratio of largest to smallest on, a scale is logarithmic where it may be.
LOGARITHMIC_FROM = 30.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, in percent of its length, and the text there."""

    at: float
    text: str


@dataclass
class Line:
    """A series of ``points``; ``style`` is its class on the page, ``dots`` marks every point.

    ``titles`` are what each dot shows when pointed at.
    """

    name: str
    points: Sequence[Point]
    style: str = "after"
    dots: bool = False
    faint: bool = False
    titles: Sequence[str] = ()
    path: str = ""
    marks: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Plot:
    """Lines with their axes, ready for the page's template."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_title: str
    y_title: str
    logarithmic: bool = False

    @property
    def legend(self) -> list[Line]:
        """The lines that carry a name."""
        return [line for line in self.lines if line.name]


def line_plot(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    *,
    logarithmic: bool = False,
    percent: bool = False,
) -> Plot | None:
    """Return the plot of ``lines``, None where no point is finite.

    ``logarithmic`` allows a logarithmic y axis, taken where the values span more than a factor of
    30; ``percent`` marks the y axis in percent of 1.
    """
    points = [p for line in lines for p in line.points if all(map(math.isfinite, p))]
    if not points:
        return None
    xs, ys = ([p[axis] for p in points] for axis in (0, 1))
    log = logarithmic and min(ys) > 0 and max(ys) / min(ys) > LOGARITHMIC_FROM
    scaled = [math.log10(y) for y in ys] if log else ys
    x_range, y_range = _padded(xs, 0.0), _padded(scaled, 0.06)
    for line in lines:
        finite = [
            (i, (x, math.log10(y) if log else y))
            for i, (x, y) in enumerate(line.points)
            if math.isfinite(x) and math.isfinite(y) and (not log or y > 0)
        ]
        placed = [(i, _placed(p, x_range, y_range)) for i, p in finite]
        line.path = _path([p for _, p in placed])
        if line.dots:
            line.marks = [
                (_dot(p), line.titles[i] if i < len(line.titles) else "") for i, p in placed
            ]
    y_ticks = _log_ticks(y_range) if log else ticks(y_range, percent=percent, upwards=True)
    return Plot(list(lines), ticks(x_range), y_ticks, x_title, y_title, log)


def smoothed(values: Sequence[float | None]) -> tuple[list[Point], list[Point]]:
    """Return the values by step, from 1 on, thinned to what can be seen, and their running mean.

    What is None or not finite is left out.
    """
    steps = [(i, v) for i, v in enumerate(values, 1) if v is not None and math.isfinite(v)]
    if not steps:
        return [], []
    x = np.array([s[0] for s in steps], dtype=np.float64)
    y = np.array([s[1] for s in steps], dtype=np.float64)
    bins = np.array_split(np.arange(len(x)), min(len(x), MOST_POINTS))
    thin_x = np.array([x[b].mean() for b in bins])
    thin_y = np.array([y[b].mean() for b in bins])
    half = max(1, len(thin_y) // 20)
    sums = np.concatenate([[0.0], np.cumsum(thin_y)])
    index = np.arange(len(thin_y))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(thin_y))
    mean = (sums[high] - sums[low]) / (high - low)
    return _points(thin_x, thin_y), _points(thin_x, mean)


def histogram_path(counts: Sequence[int], highest: float) -> str:
    """Return the path of a histogram whose tallest bar, of ``highest`` values, is 100 high.

    Heights grow with the square root of the counts: the tails of weights are what pruning leaves.
    """
    width = 100 / max(len(counts), 1)
    parts = ["M0 100"]
    for i, count in enumerate(counts):
        top = 100 - 100 * math.sqrt(count / highest) if highest > 0 else 100
        parts.append(f"V{_short(top)}H{_short((i + 1) * width)}")
    return "".join([*parts, "V100Z"])


def ticks(
    limits: tuple[float, float], count: int = 5, *, percent: bool = False, upwards: bool = False
) -> list[Tick]:
    """Return about ``count`` marks at round numbers; ``upwards`` counts the place from the top."""
    low, high = limits
    step = _round_step((high - low) / count)
    # A mark a hair outside is still at the end: 94.998 is where 95 was asked for.
    first = math.ceil(low / step - 0.02)
    last = math.floor(high / step + 0.02)
    found = []
    for k in range(first, last + 1):
        share = (k * step - low) / (high - low)
        found.append(
            Tick(100 * (1 - share if upwards else share), _tick_text(k * step, step, percent))
        )
    return found


def _log_ticks(limits: tuple[float, float]) -> list[Tick]:
    low, high = limits
    values = [
        (10.0**power) * factor
        for power in range(math.floor(low), math.ceil(high) + 1)
        for factor in ((1,) if high - low > 2 else (1, 2, 5))
    ]
    places = [(value, (math.log10(value) - low) / (high - low)) for value in values]
    return [Tick(100 * (1 - at), f"{value:g}") for value, at in places if 0 <= at <= 1]


def _tick_text(value: float, step: float, percent: bool) -> str:
    if percent:
        digits = max(0, -math.floor(math.log10(step * 100) + 1e-9))
        return f"{100 * value:.{digits}f} %"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2g}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}" if abs(value) > 1e-12 else "0"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _padded(values: Iterable[float], share: float) -> tuple[float, float]:
    values = list(values)
    low, high = min(values), max(values)
    if high == low:
        room = abs(high) / 10 or 1.0
        return low - room, high + room
    room = (high - low) * share
    return low - room, high + room


def _placed(point: Point, x_range: tuple[float, float], y_range: tuple[float, float]) -> Point:
    x = (point[0] - x_range[0]) / (x_range[1] - x_range[0])
    y = (point[1] - y_range[0]) / (y_range[1] - y_range[0])
    return 100 * x, 100 * (1 - y)


def _path(points: Sequence[Point]) -> str:
    if len(points) == 1:
        return _dot(points[0])
    return "".join(f"{'L' if i else 'M'}{_short(x)} {_short(y)}" for i, (x, y) in enumerate(points))


def _dot(point: Point) -> str:
    """Return a line of no length: with round ends it is a dot, however the plot is stretched."""
    return f"M{_short(point[0])} {_short(point[1])}h0"


def _points(x: np.ndarray, y: np.ndarray) -> list[Point]:
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
