"""Criteria: how important each weight of a layer is. One criterion per file, chosen by name."""

from onnx_unipts.criteria.criterion import CRITERIA, Evidence, FixedScores

__all__ = ["CRITERIA", "Evidence", "FixedScores"]
