"""The random criterion: what every other one has to beat."""

import numpy as np

from onnx_unipts.criteria.criterion import CRITERIA, Evidence, FixedScores
from onnx_unipts.patterns.masking import Scores


@CRITERIA.register("random")
def random(evidence: Evidence) -> Scores:
    """Scores drawn once by the seed, in (0, 1]; masks never move."""
    rng = np.random.default_rng([evidence.seed, 4])
    student = evidence.student
    return FixedScores(
        {
            name: (1 - rng.random(student.dense[name].shape)).astype(np.float32)
            for name in student.prunable
        }
    )
