"""The registry of fitness measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnx_unipts.graph.registry import Registry
from onnx_unipts.targets import Target

__all__ = ["FITNESS", "Measure"]

Outputs = Mapping[str, np.ndarray]
# (targets, dense outputs, sparse outputs, labels of the samples or None) -> larger is better
Measure = Callable[[Sequence[Target], Outputs, Outputs, np.ndarray | None], float]

FITNESS: Registry[Measure] = Registry("fitness", "onnx_unipts.fitness")
