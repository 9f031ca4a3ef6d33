"""What is compared between dense and sparse model: one target per output, a float value each."""

from onnx_unipts.targets.choosing import choose_targets
from onnx_unipts.targets.distance import divergence, total_divergence
from onnx_unipts.targets.features import choose_features
from onnx_unipts.targets.scores import log_softmax, softmax
from onnx_unipts.targets.target import Target, expose, with_measured

__all__ = [
    "Target",
    "choose_features",
    "choose_targets",
    "divergence",
    "expose",
    "log_softmax",
    "softmax",
    "total_divergence",
    "with_measured",
]
