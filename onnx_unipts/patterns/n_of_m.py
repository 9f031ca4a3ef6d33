"""The N:M patterns (2:4, 1:4, 4:8, ...): at most N of M consecutive weights are not zero."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.prunable import PrunableWeight
from onnx_unipts.patterns.pattern import PATTERNS, Layout, Pattern, keep_largest

__all__ = ["NOfM"]

LARGEST_GROUP = 1024


@dataclass(frozen=True)
class NOfM(Pattern):
    """At most N of every M consecutive weights along the reduction axis are not zero.

    Groups run along the axis that the operator sums over: the input channels of a convolution, for
    each output channel and kernel position by itself, and the K axis of Gemm and MatMul, as sparse
    tensor cores and their compilers expect it (Mishra et al., arXiv 2104.08378). They start anew
    for each group of channels of a grouped convolution. Where M does not divide the axis, the last
    group is shorter and keeps at most N as well. A weight whose axis is no longer than N has
    nothing to lose and stays dense.

    Every group keeps exactly N, or all of a shorter group, so that the pattern fixes how many
    weights each layer keeps; where the dense model already has zeros, groups may keep fewer.
    """

    n: int
    m: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """The pattern as the user writes it."""
        return f"{self.n}:{self.m}"

    @property
    def gain(self) -> str:  # type: ignore[override]
        """Which runtimes gain: those on the hardware that the pattern is made for."""
        if (self.n, self.m) == (2, 4):
            return (
                "2:4 makes NVIDIA's sparse tensor cores faster (Ampere and newer, by TensorRT in "
                "half precision or int8); other runtimes only get a smaller file"
            )
        return (
            f"{self.name} makes runtimes faster that have kernels for it, which onnxruntime, "
            "OpenVINO and TensorRT have not; all get a smaller file"
        )

    @property
    def fixed_sparsity(self) -> float:  # type: ignore[override]
        """The share of zeros in a whole group."""
        return 1 - self.n / self.m

    def objection(self, weight: PrunableWeight) -> str:
        """Object to weights without a known reduction axis, and to those with too short a one."""
        if weight.in_axis is None:
            return f"has no reduction axis for the pattern {self.name}"
        length = weight.shape[weight.in_axis] // weight.in_groups
        if length <= self.n:
            return f"sums over {length}: nothing to prune with the pattern {self.name}"
        return ""

    def mask(self, scores: np.ndarray, kept: int, layout: Layout) -> np.ndarray:
        """Keep the N largest scores of every group, less or more until ``kept`` are.

        Less: the smallest of these go. More, while sparsity still grows: the largest others stay,
        and the pattern is not yet reached.
        """
        groups = self._groups(scores, layout)
        best = np.argpartition(-groups, self.n - 1, axis=-1)[..., : self.n]
        chosen = np.zeros(groups.shape, dtype=bool)
        np.put_along_axis(chosen, best, True, axis=-1)
        mask = self._ungrouped(chosen, scores.shape, layout)
        count = int(mask.sum())
        if count == kept:
            return mask
        extreme = scores.dtype.type(-np.inf if kept < count else np.inf)
        first = mask if kept < count else ~mask
        return keep_largest(np.where(first, scores, extreme), kept)

    def limit(self, weight: np.ndarray, layout: Layout) -> int:
        """Return what all groups keep together."""
        nonzero = self._groups((weight != 0).astype(np.float32), layout) > 0
        return int(np.minimum(nonzero.sum(axis=-1), self.n).sum())

    def violation(self, tensor: np.ndarray, layout: Layout) -> str:
        """Find a group with more than N that are not zero."""
        nonzero = self._groups((tensor != 0).astype(np.float32), layout) > 0
        most = int(nonzero.sum(axis=-1).max(initial=0))
        if most <= self.n:
            return ""
        return f"{most} of {self.m} consecutive weights along axis {layout.in_axis} are not zero"

    def _groups(self, values: np.ndarray, layout: Layout) -> np.ndarray:
        """Return ``values`` as (rows, groups, M); minus infinity fills what is missing to M."""
        rows = self._rows(values, layout)
        missing = -rows.shape[-1] % self.m
        filled = np.pad(rows, ((0, 0), (0, missing)), constant_values=-np.inf)
        return filled.reshape(len(rows), -1, self.m)

    def _rows(self, values: np.ndarray, layout: Layout) -> np.ndarray:
        """Return ``values`` as (rows, weights that are summed over)."""
        assert layout.in_axis is not None
        moved = np.moveaxis(values, layout.in_axis, -1)
        return moved.reshape(-1, values.shape[layout.in_axis] // layout.in_groups)

    def _ungrouped(self, groups: np.ndarray, shape: tuple[int, ...], layout: Layout) -> np.ndarray:
        assert layout.in_axis is not None
        length = shape[layout.in_axis] // layout.in_groups
        rows = groups.reshape(len(groups), -1)[:, :length]
        others = [size for axis, size in enumerate(shape) if axis != layout.in_axis % len(shape)]
        moved = rows.reshape(*others, shape[layout.in_axis])
        return np.ascontiguousarray(np.moveaxis(moved, -1, layout.in_axis))


@PATTERNS.register("N:M (such as 2:4)")
def n_of_m(name: str) -> Pattern | None:
    """Return the pattern of a name such as ``2:4``. Raises `UsageError` for 4:2 and the like."""
    match = re.fullmatch(r"(\d+):(\d+)", name)
    if match is None:
        return None
    n, m = map(int, match.groups())
    if not 1 <= n < m <= LARGEST_GROUP:
        raise UsageError(
            f"pattern {name}: N:M needs N of at least 1, and M above N and at most {LARGEST_GROUP}"
        )
    return NOfM(n, m)
