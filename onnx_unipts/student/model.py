"""The student: the user's graph with its weights as inputs, and the values of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from onnx_unipts.graph import normalization
from onnx_unipts.graph.dynamic_batch import Batching
from onnx_unipts.graph.model import (
    from_proto,
    serialize,
    to_proto,
)
from onnx_unipts.graph.normalization import Normalization
from onnx_unipts.graph.parameters import bind
from onnx_unipts.patterns import Masking
from onnx_unipts.targets import Target, expose

__all__ = ["Student"]

# What a pass that only measures may take: about half a minute on one core.
PASS_MULTIPLICATIONS = 300_000_000_000
# What a run may take: the activations of a batch grow with it, and have to fit into memory.
BATCH_MULTIPLICATIONS = 150_000_000_000
# A number that no weight is.
UNREAD = 1e15


@dataclass
class Student:
    """A working model whose parameters are inputs, with their values.

    ``model`` outputs the distilled values of ``targets``. ``tensors`` are its parameters by name,
    float32; ``prunable`` names those that masks apply to, made by ``masking``; ``trained`` those
    that gradients train. ``batching`` says how it is fed, ``shapes`` the shape of one sample of
    each input, and ``multiplications`` what a forward pass of one sample takes.
    """

    model: ir.Model
    tensors: dict[str, np.ndarray]
    prunable: tuple[str, ...]
    trained: tuple[str, ...]
    normalizations: tuple[Normalization, ...]
    targets: tuple[Target, ...]
    features: tuple[Target, ...] = ()
    dense: dict[str, np.ndarray] = field(default_factory=dict)
    masking: Masking = field(default_factory=Masking)
    batching: Batching = field(default_factory=Batching)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    multiplications: int = 0

    def with_batch_statistics(self) -> bytes:
        """Return the model, serialised, that normalises by the statistics of each batch."""
        return serialize(normalization.with_batch_statistics(self.model, self.normalizations))

    def teacher(self, statistics: str) -> bytes:
        """Return the dense model, serialised, with ``batch`` or ``running`` statistics."""
        model, tensors = self.model, self.dense
        if statistics == "batch":
            model = normalization.with_batch_statistics(model, self.normalizations)
            tensors = tensors | self._unread_statistics()
        model = bind(model, tensors)
        expose(model, self.taught)
        return serialize(model)

    def _unread_statistics(self) -> dict[str, np.ndarray]:
        """Return in place of running statistics, which batches replace, what equals no tensor.

        Of equal constants onnxruntime makes one, and writes the statistics of a batch over it: over
        the bias of a normalisation that equals its mean, before it is read.
        """
        names = dict.fromkeys(name for norm in self.normalizations for name in norm.statistics)
        shapes = (self.dense[name].shape for name in names)
        return {
            name: np.full(shape, UNREAD * number, np.float32)
            for number, (name, shape) in enumerate(zip(names, shapes, strict=True), start=1)
        }

    @property
    def taught(self) -> tuple[Target, ...]:
        """What the dense model teaches: the targets, and the features beside them."""
        return (*self.targets, *self.features)

    def run_shapes(self, samples: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input where one run takes so many ``samples``."""
        whole = self.batching.whole
        return {
            name: shape if name in whole else (samples, *shape)
            for name, shape in self.shapes.items()
        }

    def affordable(self, samples: int) -> int:
        """Return how many of the ``samples`` one pass over the data looks at.

        All of them but for large models: a few seconds' worth, and two at least.
        """
        most = PASS_MULTIPLICATIONS // max(self.multiplications, 1)
        return min(samples, max(most, 2))

    def divided(self, samples: int) -> int:
        """Return the largest divisor of ``samples`` that a run of a large model has memory for."""
        most = max(BATCH_MULTIPLICATIONS // max(self.multiplications, 1), 1)
        return max(k for k in range(1, min(samples, most) + 1) if samples % k == 0)

    def __getstate__(self) -> dict[str, Any]:
        """Hold the model as bytes, for another process."""
        return {**self.__dict__, "model": to_proto(self.model).SerializeToString()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self.model = from_proto(onnx.ModelProto.FromString(state["model"]))
        for value in self.model.graph.inputs:
            if (tensor := self.dense.get(str(value.name))) is not None:
                value.const_value = ir.tensor(tensor, name=value.name)

    def taught_at(self, share: float) -> tuple[Target, ...]:
        """What the dense model teaches, with ``share`` of the weight of the features."""
        faded = (replace(feature, weight=feature.weight * share) for feature in self.features)
        return (*self.targets, *faded)

    def with_tensors(self, tensors: Mapping[str, np.ndarray]) -> bytes:
        """Return the model, serialised, with ``tensors`` as constants and running statistics."""
        return serialize(bind(self.model, tensors))

    @property
    def values(self) -> list[str]:
        """The names of the values that the dense model teaches, each once."""
        return list(dict.fromkeys(target.value for target in self.taught))
