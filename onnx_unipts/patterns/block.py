"""The block patterns (4x1, 1x4, 16x1, ...): blocks over output and input channels stay or go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.prunable import PrunableWeight
from onnx_unipts.patterns.pattern import PATTERNS, Layout, Pattern, keep_largest

__all__ = ["Block"]

LARGEST_SIDE = 1024


@dataclass(frozen=True)
class Block(Pattern):
    """Blocks of R output channels by C input channels are kept or removed as a whole.

    Each kernel position has blocks of its own. ``4x1`` is what sparse kernels that handle several
    output channels at once expect (XNNPACK and others; Elsen et al., Fast Sparse ConvNets, arXiv
    1911.09723), ``1x4`` what those do that load several inputs at once. Where the channels are no
    multiple of R or C, the blocks at the end are smaller.

    A block's score is the mean score of its weights. What is kept is a whole number of blocks, so
    a count is met to within less than one block, never exceeded; the blocks of each size are taken
    in proportion to how many there are.
    """

    rows: int
    columns: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """The pattern as the user writes it."""
        return f"{self.rows}x{self.columns}"

    @property
    def gain(self) -> str:  # type: ignore[override]
        """Which runtimes gain: those that compute several outputs of a 1x1 convolution at once."""
        return (
            f"blocks of {self.name} make runtimes faster that have kernels for them (XNNPACK for "
            "2 or 4 outputs of 1x1 convolutions), which stock onnxruntime has not; all get a "
            "smaller file"
        )

    @property
    def step(self) -> int:  # type: ignore[override]
        """The number of weights of a whole block."""
        return self.rows * self.columns

    def objection(self, weight: PrunableWeight) -> str:
        """Object to weights whose output or input channels are not known."""
        if weight.in_axis is None or weight.out_axis is None:
            return f"has no channel axes for the pattern {self.name}"
        return ""

    def mask(self, scores: np.ndarray, kept: int, layout: Layout) -> np.ndarray:
        """Keep the blocks of largest mean score, of each size as many as ``kept`` asks for."""
        means, sizes = self._means(scores, layout)
        mask = np.zeros(means.shape, dtype=bool)
        wanted = _chosen(_tally(sizes), kept)
        for size, number in wanted.items():
            where = sizes == size
            mask[where] = keep_largest(means[where], number)
        return self._spread(mask, scores.shape, layout)

    def limit(self, weight: np.ndarray, layout: Layout) -> int:
        """Return the size of all blocks that are not entirely zero, or the next smaller count."""
        nonzero, sizes = self._means((weight != 0).astype(np.float32), layout)
        counts = self.counts(weight.shape, layout)
        total = int(sizes[nonzero > 0].sum())
        return int(counts[np.searchsorted(counts, total, side="right") - 1])

    def counts(self, shape: tuple[int, ...], layout: Layout) -> np.ndarray:
        """Return the sizes of the first 0, 1, 2, ... blocks, in the order in which they stay."""
        tally = _tally(self._sizes(shape, layout))
        return np.concatenate([[0], np.cumsum(_order(tally))])

    def pooled(self, scores: np.ndarray, layout: Layout) -> np.ndarray:
        """Return the mean score of its block for each weight."""
        means, _ = self._means(scores, layout)
        return self._spread(means, scores.shape, layout)

    def violation(self, tensor: np.ndarray, layout: Layout) -> str:
        """Find a block of which some weights are zero and others are not."""
        shares, _ = self._means((tensor != 0).astype(np.float64), layout)
        mixed = int(((shares > 1e-9) & (shares < 1 - 1e-9)).sum())
        return f"{mixed} blocks of {self.name} are zero in part" if mixed else ""

    def _means(self, values: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and size of each block, both (rows of blocks, columns of blocks, rest)."""
        matrix = _matrix(values, layout)
        outs, ins, rest = matrix.shape
        padded = np.pad(matrix, ((0, -outs % self.rows), (0, -ins % self.columns), (0, 0)))
        blocks = padded.reshape(
            padded.shape[0] // self.rows, self.rows, padded.shape[1] // self.columns, -1, rest
        )
        sizes = self._sizes(values.shape, layout)
        kind = np.promote_types(values.dtype, np.float32)
        return blocks.sum(axis=(1, 3), dtype=kind) / sizes.astype(kind), sizes

    def _sizes(self, shape: tuple[int, ...], layout: Layout) -> np.ndarray:
        assert layout.out_axis is not None
        assert layout.in_axis is not None
        outs, ins = shape[layout.out_axis], shape[layout.in_axis]
        rest = int(np.prod(shape)) // max(outs * ins, 1)
        heights = np.minimum(self.rows, outs - np.arange(0, outs, self.rows))
        widths = np.minimum(self.columns, ins - np.arange(0, ins, self.columns))
        return np.repeat(np.outer(heights, widths)[:, :, None], rest, axis=2)

    def _spread(self, blocks: np.ndarray, shape: tuple[int, ...], layout: Layout) -> np.ndarray:
        """Give each weight the value of its block."""
        assert layout.out_axis is not None
        assert layout.in_axis is not None
        spread = blocks.repeat(self.rows, axis=0).repeat(self.columns, axis=1)
        ends = (layout.out_axis % len(shape), layout.in_axis % len(shape))
        outs, ins = shape[ends[0]], shape[ends[1]]
        others = [size for axis, size in enumerate(shape) if axis not in ends]
        moved = spread[:outs, :ins].reshape(outs, ins, *others)
        return np.ascontiguousarray(np.moveaxis(moved, (0, 1), ends))


def _matrix(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Return ``values`` as (out, in, rest)."""
    assert layout.out_axis is not None
    assert layout.in_axis is not None
    moved = np.moveaxis(values, (layout.out_axis, layout.in_axis), (0, 1))
    return moved.reshape(*moved.shape[:2], -1)


_Tally = tuple[tuple[int, int], ...]


def _tally(sizes: np.ndarray) -> _Tally:
    """Return each size of blocks with how many there are."""
    return tuple(
        zip(*(part.tolist() for part in np.unique(sizes, return_counts=True)), strict=True)
    )


@lru_cache(maxsize=1024)
def _order(tally: _Tally) -> np.ndarray:
    """Return the sizes of all blocks in the order in which they stay, all sizes evenly mixed.

    One fixed order for each shape: its partial sums are the counts that masks may keep, and what
    masks keep depends on no scores.
    """
    places = np.concatenate([(np.arange(number) + 0.5) / number for _, number in tally])
    sizes = np.repeat([size for size, _ in tally], [number for _, number in tally])
    return sizes[np.argsort(places, kind="stable")]


def _chosen(tally: _Tally, kept: int) -> dict[int, int]:
    """Return how many blocks of each size stay where ``kept`` weights may."""
    order = _order(tally)
    stay = order[: np.searchsorted(np.cumsum(order), kept, side="right")]
    return {size: int((stay == size).sum()) for size, _ in tally}


@PATTERNS.register("RxC (such as 4x1)")
def block(name: str) -> Pattern | None:
    """Return the pattern of a name such as ``4x1``. Raises `UsageError` for 0x4 and the like."""
    match = re.fullmatch(r"(\d+)x(\d+)", name)
    if match is None:
        return None
    rows, columns = map(int, match.groups())
    if not (1 <= rows <= LARGEST_SIDE and 1 <= columns <= LARGEST_SIDE) or rows * columns == 1:
        raise UsageError(
            f"pattern {name}: a block RxC needs sides of 1 to {LARGEST_SIDE}, and more than one "
            "weight"
        )
    return Block(rows, columns)
