"""Training under a mask that never moves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.training.recovery import RECOVERIES, Recovery, Tensors, kept_at


def scores_of(name: str) -> str:
    """Return the name under which the scores of a weight are kept."""
    return f"{name}/scores"


@RECOVERIES.register("static-mask")
class StaticMask(Recovery):
    """The masks of the dense weights stay (Han et al., arXiv 1506.02626); all that is kept trains.

    While sparsity ramps up, masks only ever lose weights.
    """

    def begin(self, tensors: dict[str, np.ndarray]) -> None:
        """Remember the scores of the weights as they are."""
        for name in self.kept:
            if scores_of(name) not in tensors:
                scores = self.masking.scored(name, tensors[name])
                tensors[scores_of(name)] = np.array(scores, np.float32)

    def masks(self, tensors: Tensors, share: float = 1.0) -> dict[str, np.ndarray]:
        """Return the masks (bool) by the remembered scores."""
        return {
            name: self.masking.by_scores(
                name, tensors[scores_of(name)], kept_at(kept, tensors[name].size, share)
            )
            for name, kept in self.kept.items()
        }

    def updates(
        self, tensors: Tensors, gradients: Tensors, masks: Tensors
    ) -> Mapping[str, np.ndarray]:
        """Pruned weights get no gradient."""
        return {n: g * masks[n] if n in masks else g for n, g in gradients.items()}
