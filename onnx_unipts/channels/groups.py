"""The groups of channels of a model that can be pruned, and what each of them costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.channels import CannotTraceError, Trace, trace_channels
from onnx_unipts.graph.channels.blocks import BLOCK
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.prunable import PrunableWeight

__all__ = ["Channels", "Space", "find_channels"]


@dataclass(frozen=True)
class Space:
    """Channels that are alike: the same axes of the same weights run over them.

    ``members`` are their numbers (int64); ``multiple`` is what the number kept is a multiple of.
    """

    name: str
    members: np.ndarray
    cost: int

    @property
    def multiple(self) -> int:
        """The largest power of two up to a block that leaves a choice."""
        count = len(self.members)
        part = max(count // 2 if count >= BLOCK else count // 4, 1)
        return min(BLOCK, 1 << (part.bit_length() - 1))

    def rounded(self, wanted: float, finer: int = 0) -> int:
        """Return the number nearest to ``wanted`` that may be kept.

        Its multiples are halved ``finer`` times.
        """
        step = self.step(finer)
        return int(min(max(round(wanted / step), 1) * step, len(self.members)))

    def step(self, finer: int = 0) -> int:
        """Return the multiple, halved ``finer`` times."""
        return max(self.multiple >> finer, 1)


@dataclass(frozen=True)
class Channels:
    """The channels of a model that may be removed, numbered from 0.

    Attributes:
        axes: per weight and axis the number of the channel at each position, -1 for those that
            stay (int64); None for an axis without channels.
        shapes: the shapes of the weights.
        blocked: per weight the axis whose channels are computed in blocks, None without one.
        positions: how often each weight is applied to one sample; None where that is not known.
        count: how many channels there are.
    """

    axes: Mapping[str, tuple[np.ndarray | None, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    blocked: Mapping[str, int | None]
    positions: Mapping[str, int] | None
    count: int

    @cached_property
    def spaces(self) -> list[Space]:
        """The channels in groups of equals, in the order of the graph."""
        touched: list[list[tuple[str, int, int]]] = [[] for _ in range(self.count)]
        cost = np.zeros(self.count, dtype=np.int64)
        for key, axes in self.axes.items():
            size = math.prod(self.shapes[key])
            for axis, numbers in enumerate(axes):
                if numbers is None:
                    continue
                found, times = np.unique(numbers[numbers >= 0], return_counts=True)
                for number, often in zip(found.tolist(), times.tolist(), strict=True):
                    touched[number].append((key, axis, often))
                    cost[number] += size // len(numbers) * often
        alike: dict[tuple[tuple[str, int, int], ...], list[int]] = {}
        for number, places in enumerate(touched):
            alike.setdefault(tuple(places), []).append(number)
        spaces = []
        for alike_places, members in alike.items():
            key, axis, _ = alike_places[0]
            numbers = np.array(members)
            name = f"{key}[{axis}]:{members[0]}"
            spaces.append(Space(name, numbers, int(cost[members[0]])))
        return spaces

    def masks(self, alive: np.ndarray) -> dict[str, np.ndarray]:
        """Return the mask (bool) of every weight where only the channels ``alive`` (bool) stay."""
        stays = np.append(alive, True)  # number -1 always does
        masks = {}
        for key, axes in self.axes.items():
            shape = self.shapes[key]
            mask = np.ones(shape, dtype=bool)
            for axis, numbers in enumerate(axes):
                if numbers is not None:
                    along = [1] * len(shape)
                    along[axis] = -1
                    mask &= stays[numbers].reshape(along)
            masks[key] = mask
        return masks

    def left(self, alive: np.ndarray) -> tuple[float, float]:
        """Return the shares of weights and of multiply-adds that are left.

        Multiply-adds are counted in whole blocks of channels; 0 where they cannot be told.
        """
        stays = np.append(alive, True)
        left, whole = np.zeros(2), np.zeros(2)
        for key, axes in self.axes.items():
            shape, blocked = self.shapes[key], self.blocked[key]
            sizes = [
                n if a is None else int(stays[a].sum()) for n, a in zip(shape, axes, strict=True)
            ]
            positions = 0 if self.positions is None else self.positions[key]
            left += math.prod(sizes), positions * math.prod(_in_blocks(sizes, blocked))
            whole += math.prod(shape), positions * math.prod(_in_blocks(shape, blocked))
        return float(left[0] / whole[0]), float(left[1] / whole[1]) if whole[1] else 0.0


def find_channels(model: ir.Model, weights: Sequence[PrunableWeight]) -> Channels:
    """Find the channels of ``model`` that can be removed by masking ``weights`` that are pruned.

    Those of weights that are not pruned stay. Raises `UnsupportedModelError` if none is found.
    """
    trace = trace_channels(model)
    channel, pinned = trace.channels
    pruned = {weight.key for weight in weights if weight.pruned}
    unpruned = {weight.key for weight in weights if not weight.pruned}
    by_key = {str(value.name): trace.axes(value) for value in trace.stored}
    stays = pinned.copy()
    for key in unpruned & by_key.keys():
        _pin(stays, channel, by_key[key])
    for read in trace.reads:
        if not _is_weighted(trace, read.node):
            _pin(stays, channel, [read.labels])
    free = np.unique(channel[~stays[channel]])
    number = np.full(trace.labels.count + 1, -1)
    number[free] = np.arange(len(free))
    axes: dict[str, tuple[np.ndarray | None, ...]] = {}
    shapes = {weight.key: weight.shape for weight in weights if weight.pruned}
    for key in pruned:
        labelled = by_key.get(key, (None,) * len(shapes[key]))
        axes[key] = tuple(None if a is None else number[channel[a]] for a in labelled)
    axes = {weight.key: axes[weight.key] for weight in weights if weight.pruned}
    used = np.unique(np.concatenate([_flat(each) for each in axes.values()]))
    used = used[used >= 0]
    if not len(used):
        raise UnsupportedModelError(
            "no channel can be removed from this model; use another pattern, such as unstructured"
        )
    dense = np.full(len(free) + 1, -1)
    dense[used] = np.arange(len(used))
    axes = {
        key: tuple(None if a is None else np.where(a >= 0, dense[a], -1) for a in each)
        for key, each in axes.items()
    }
    blocked = {w.key: _blocked(w) for w in weights if w.pruned}
    return Channels(axes, shapes, blocked, _positions(trace, model, pruned), len(used))


def _blocked(weight: PrunableWeight) -> int | None:
    """Return the axis of the output channels of a convolution that has a whole block of them."""
    if weight.operator != "Conv" or weight.out_axis is None:
        return None
    return weight.out_axis if weight.shape[weight.out_axis] >= BLOCK else None


def _in_blocks(sizes: Sequence[int], axis: int | None) -> list[int]:
    """Return ``sizes`` with the one of ``axis`` rounded up to whole blocks."""
    return [-(-n // BLOCK) * BLOCK if a == axis else n for a, n in enumerate(sizes)]


def _flat(axes: Sequence[np.ndarray | None]) -> np.ndarray:
    return np.concatenate([np.array([-1]), *(a for a in axes if a is not None)])


def _pin(stays: np.ndarray, channel: np.ndarray, axes: Sequence[np.ndarray | None]) -> None:
    for labels in axes:
        if labels is not None:
            stays[channel[labels]] = True


def _is_weighted(trace: Trace, node: ir.Node) -> bool:
    """Tell whether weights read the channels, so that masks can stop it."""
    return any(trace.constant(value) is not None for value in node.inputs[:2])


def _positions(trace: Trace, model: ir.Model, keys: set[str]) -> dict[str, int] | None:
    """Return at how many positions each weight is applied, None where any cannot be told."""
    found: dict[str, int] = {}
    for value in trace.stored:
        key = str(value.name)
        if key not in keys:
            continue
        total = 0
        for node in _users(value):
            try:
                dims = trace.dims(node.outputs[0])[1:]
            except CannotTraceError:
                return None
            spatial = dims[1:] if node.op_type.startswith("Conv") else dims[:-1]
            if not all(isinstance(dim, int) for dim in spatial):
                return None
            total += math.prod(int(dim) for dim in spatial if isinstance(dim, int))
        found[key] = total
    return found if found.keys() == keys else None


def _users(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that take ``value`` as a weight, through operators that rearrange it."""
    users = []
    for node, _ in value.uses():
        if node.op_type in ("Identity", "Transpose", "Reshape", "Cast", "Squeeze", "Unsqueeze"):
            users += _users(node.outputs[0])
        else:
            users.append(node)
    return users
