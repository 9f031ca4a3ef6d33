"""A look at the dense model's outputs on evenly spread samples, as they are or otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.calibration.alternatives import Alternative, alternatives
from onnx_unipts.data_check.belief import Belief
from onnx_unipts.data_check.ranges import FEW, spread
from onnx_unipts.evaluation import run_samples
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.targets import Target, log_softmax

__all__ = ["Look"]

CONFIRMING = 4  # times as many samples confirm what few ones suggest
LARGE_INPUT = 3 * 64 * 64  # numbers; of larger inputs a quarter as many are looked at
OF_PIXELS = (
    "likely causes are a wrong range of values (--preprocessing, --mean, --std), a wrong order of "
    "channels (--channel-order), a wrong layout (--layout), or samples that are all alike"
)
OF_ARRAYS = (
    "likely causes are values of another range, order or meaning than in training, which are fed "
    "as they are, or samples that are all alike"
)
LARGEST_OUTPUTS = 2**25  # numbers held of all samples: maps of classes and vocabularies are large


class Look:
    """Runs the dense model on evenly spread samples, prepared as they are or otherwise."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        targets: Sequence[Target],
        data: CalibrationData,
    ) -> None:
        self._session = session
        self._names = list(dict.fromkeys(target.measured for target in targets))
        self._data = data
        first = data.batch(np.arange(1))
        largest = max(math.prod(values.shape[1:]) for values in first.values())
        outputs = sum(values.size for values in run_samples(session, self._names, first))
        count = FEW if largest <= LARGE_INPUT else FEW // 4
        self.count = min(count, len(data), LARGEST_OUTPUTS // max(outputs, 1) // CONFIRMING)
        self._seen: dict[int, dict[str, np.ndarray]] = {}

    @property
    def more(self) -> int:
        """The number of samples that confirms what `count` of them suggest."""
        return min(CONFIRMING * self.count, len(self._data))

    @property
    def causes(self) -> str:
        """What most likely is behind outputs that make no sense, in words."""
        return OF_PIXELS if self._data.has_pixels else OF_ARRAYS

    @property
    def others(self) -> dict[str, Alternative]:
        """What else the images could be, by the remedy."""
        return alternatives(self._data)

    @property
    def range_of_labels(self) -> tuple[int, int]:
        """The smallest and the largest label, (0, 0) without labels."""
        labels = self._data.labels
        return (0, 0) if labels is None else (int(labels.min()), int(labels.max()))

    def labels(self, count: int) -> np.ndarray | None:
        """Return the labels of the samples of `outputs`."""
        labels = self._data.labels
        return None if labels is None else labels[spread(len(self._data), count)]

    def outputs(self, count: int = 0, other: Alternative | None = None) -> dict[str, np.ndarray]:
        """Return the outputs by name on ``count`` samples, on `count` of them if 0."""
        count = count or self.count
        if other is None and count in self._seen:
            return self._seen[count]
        parts = []
        rows = spread(len(self._data), count)
        for start in range(0, len(rows), self.count):
            batch = self._data.batch(rows[start : start + self.count])
            if other is not None:
                batch = {name: other.prepare(values) for name, values in batch.items()}
            parts.append(run_samples(self._session, self._names, batch))
        joined = [np.concatenate(values) for values in zip(*parts, strict=True)]
        outputs = dict(zip(self._names, joined, strict=True))
        if other is None:
            self._seen[count] = outputs
        return outputs

    def belief(self, target: Target, count: int = 0, other: Alternative | None = None) -> Belief:
        """Return what the model believes about the samples."""
        scores = target.scores(self.outputs(count, other)[target.measured]).astype(np.float64)
        return Belief(log_softmax(np.moveaxis(scores, target.axis, -1)))
