"""A search of the masks by gradients, the weights untouched."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.student import Student
from onnx_unipts.training.recoveries.static_mask import StaticMask, scores_of
from onnx_unipts.training.recovery import RECOVERIES, Tensors


@RECOVERIES.register("masks-only")
class MasksOnly(StaticMask):
    """Each weight has a score that trains, first its criterion; the largest scores stay.

    Lottery Jackpots (Zhang et al., arXiv 2104.08700), section 3: the gradient by a score is the
    straight-through gradient by the mask, that by the masked weight times the weight. Scores start
    with root mean square 1 in each layer, so that one learning rate suits all.
    """

    @classmethod
    def trained(cls, student: Student) -> tuple[str, ...]:
        """Return the prunable weights: their gradients become those of the scores."""
        return tuple(name for name in student.trained if name in student.prunable)

    def begin(self, tensors: dict[str, np.ndarray]) -> None:
        """Start from the criterion's scores, scaled."""
        fresh = [name for name in self.kept if scores_of(name) not in tensors]
        super().begin(tensors)
        for name in fresh:
            scores = tensors[scores_of(name)]
            scores /= np.float32(np.sqrt(np.square(scores).mean()) + 1e-12)

    def updates(
        self, tensors: Tensors, gradients: Tensors, masks: Tensors
    ) -> Mapping[str, np.ndarray]:
        """Return the gradients by the scores.

        A score of root mean square 1 stands for a weight as it is: a score's gradient is the
        loss's by the share of its weight that passes.
        """
        return {scores_of(name): g * tensors[name] for name, g in gradients.items()}
