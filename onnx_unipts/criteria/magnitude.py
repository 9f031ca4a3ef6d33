"""The magnitude criterion: small weights matter least."""

from onnx_unipts.criteria.criterion import CRITERIA, Evidence
from onnx_unipts.patterns.masking import Scores, magnitude_scores


@CRITERIA.register("magnitude")
def magnitude(evidence: Evidence) -> Scores:
    """|w| (Han et al., arXiv 1506.02626)."""
    return magnitude_scores
