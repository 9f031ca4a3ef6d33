"""Mending what reads removed channels: the weights that stay take over what they can.

As in OBSPA (Structurally Prune Anything, arXiv 2403.18955, section 3.3), the weights that stay are
updated so that the layer's output on calibration data changes least. Here a removed channel is
predicted from those that stay, by least squares over all samples and positions, and the weights
that read it are added to those of its predictors: for 1x1 kernels and matrix products this is the
optimal update, for larger kernels the best one that treats all kernel positions alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_unipts.channels.groups import Channels
from onnx_unipts.graph.model import serialize
from onnx_unipts.graph.nodes import input_at
from onnx_unipts.graph.parameters import bind
from onnx_unipts.targets import Target, expose
from onnx_unipts.training.ort import inference_session

__all__ = ["Update"]

# Above this many channels the covariances get too large.
MOST_CHANNELS = 4096
RIDGE = 1e-3


@dataclass(frozen=True)
class _Reader:
    """A node that sums over ``axis`` of the value ``entering``, by the weight ``key``."""

    key: str
    entering: str
    axis: int
    weight_axis: int
    bias: str | None


class Update:
    """The update of one model's weights, for any choice of channels.

    Mean and covariance of what every weight reads are measured once, on the dense model.
    """

    def __init__(
        self,
        model: ir.Model,
        tensors: Mapping[str, np.ndarray],
        channels: Channels,
        batches: Iterable[Mapping[str, np.ndarray]],
        cores: int = 1,
    ) -> None:
        """``model`` is a working model whose parameters are inputs, with the values ``tensors``."""
        self._channels = channels
        self._tensors = tensors
        self._readers = _readers(model, channels)
        self._moments = _moments(model, tensors, self._readers, batches, cores)

    def __call__(self, alive: np.ndarray) -> dict[str, np.ndarray]:
        """Return the weights and biases that change where only ``alive`` (bool) stay."""
        updated: dict[str, np.ndarray] = {}
        for reader in self._readers:
            numbers = self._channels.axes[reader.key][reader.weight_axis]
            stays = np.append(alive, True)[numbers]
            if stays.any() and not stays.all():
                updated |= self._updated(reader, stays)
        return updated

    def _updated(self, reader: _Reader, stays: np.ndarray) -> dict[str, np.ndarray]:
        mean, covariance = self._moments[reader.entering]
        if reader.bias is None:  # nothing takes up a mean: what is predicted holds it, too
            covariance = covariance + np.outer(mean, mean)
        mixing = _prediction(covariance, stays)
        weight = np.moveaxis(self._tensors[reader.key], reader.weight_axis, -1).astype(np.float64)
        lost = weight[..., ~stays]
        weight[..., stays] += lost @ mixing
        changed = {reader.key: np.moveaxis(weight, -1, reader.weight_axis).astype(np.float32)}
        if reader.bias is not None:
            bias = self._tensors[reader.bias]
            shift = _per_output(lost @ (mean[~stays] - mixing @ mean[stays]), bias)
            changed[reader.bias] = (bias + shift).astype(np.float32)
        return changed


def _per_output(shift: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Sum over the kernel positions; ``shift`` is (out, kernel...)."""
    return shift.reshape(len(shift), -1).sum(axis=1).reshape(bias.shape)


def _prediction(covariance: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """Return how to predict what goes from what stays, (gone, stays), by ridge regression."""
    known = covariance[np.ix_(stays, stays)]
    ridge = RIDGE * max(float(np.trace(known)) / max(len(known), 1), 1e-12)
    both = covariance[np.ix_(stays, ~stays)]
    return np.linalg.solve(known + ridge * np.eye(len(known)), both).T


def _readers(model: ir.Model, channels: Channels) -> list[_Reader]:
    """Return the nodes that read channels that may go, one by one, by a weight of their own."""
    found = []
    for node in model.graph:
        reader = _reader(node)
        if reader is None or reader.key not in channels.axes:
            continue
        numbers = channels.axes[reader.key][reader.weight_axis]
        if numbers is not None and len(numbers) <= MOST_CHANNELS and (numbers >= 0).any():
            found.append(reader)
    return found


def _reader(node: ir.Node) -> _Reader | None:
    if node.domain or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    entering, weight = node.inputs[0], node.inputs[1]
    if entering is None or weight is None or not weight.is_graph_input():
        return None
    if entering.producer() is None or len(weight.uses()) != 1:
        return None
    bias = input_at(node, 2)
    name = bias.name if bias is not None and bias.is_graph_input() else None
    if bias is not None and (name is None or len(bias.uses()) != 1):
        return None
    key, value = str(weight.name), str(entering.name)
    if node.op_type == "Conv":
        if node.attributes.get_int("group", 1) != 1:
            return None
        return _Reader(key, value, 1, 1, name)
    if node.op_type == "Gemm":
        scaled = any(node.attributes.get_float(a, 1.0) != 1.0 for a in ("alpha", "beta"))
        if node.attributes.get_int("transA", 0) or scaled:
            return None
        return _Reader(key, value, -1, node.attributes.get_int("transB", 0), name)
    return _Reader(key, value, -1, 0, name)


def _moments(
    model: ir.Model,
    tensors: Mapping[str, np.ndarray],
    readers: Sequence[_Reader],
    batches: Iterable[Mapping[str, np.ndarray]],
    cores: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and covariance of the channels of every value that is read."""
    axes = {reader.entering: reader.axis for reader in readers}
    if not axes:
        return {}
    observed = bind(model, tensors)
    expose(observed, [Target("", name, "values") for name in axes])
    session = inference_session(serialize(observed), cores)
    sums: dict[str, np.ndarray] = {}
    squares: dict[str, np.ndarray] = {}
    counts = dict.fromkeys(axes, 0)
    for batch in batches:
        for (name, axis), value in zip(axes.items(), session.run(list(axes), batch), strict=True):
            rows = np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])
            sums[name] = sums.get(name, 0) + rows.sum(axis=0, dtype=np.float64)
            squares[name] = squares.get(name, 0) + (rows.T @ rows).astype(np.float64)
            counts[name] += len(rows)
    moments = {}
    for name, count in counts.items():
        mean = sums[name] / count
        moments[name] = mean, squares[name] / count - np.outer(mean, mean)
    return moments
