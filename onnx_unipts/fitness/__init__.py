"""Fitness: how good a pruned model is on calibration data, without any training."""

from onnx_unipts.fitness.evaluator import BACKENDS, CandidateEvaluator
from onnx_unipts.fitness.measure import FITNESS

__all__ = ["BACKENDS", "FITNESS", "CandidateEvaluator"]
