"""BatchNormalization in a graph: find it, insert it behind convolutions, measure it, fold it back.

The graphs here are working models: their weights are graph inputs, fed at every run. Exporters fold
BatchNormalization into the convolution before it; the method needs it back, because recalibrated
statistics repair a pruned layer's outputs (UniPTS, arXiv 2405.18810, section 3.3) and because it is
what makes sparse training stable.
"""

from onnx_unipts.graph.normalization.folding import fold
from onnx_unipts.graph.normalization.found import Normalization, find
from onnx_unipts.graph.normalization.insertion import insert
from onnx_unipts.graph.normalization.rescaling import FILTER_SCALES, identity, rescale, restate
from onnx_unipts.graph.normalization.statistics import (
    statistics_mean,
    train,
    with_batch_statistics,
    with_observed_statistics,
)

__all__ = [
    "FILTER_SCALES",
    "Normalization",
    "find",
    "fold",
    "identity",
    "insert",
    "rescale",
    "restate",
    "statistics_mean",
    "train",
    "with_batch_statistics",
    "with_observed_statistics",
]
