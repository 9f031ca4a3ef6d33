"""Layers by themselves: what enters them, and the weights that best give their dense outputs."""

from onnx_unipts.reconstruction.class_scores import fitted_scores, scoring_layers
from onnx_unipts.reconstruction.layerwise import reconstruct
from onnx_unipts.reconstruction.least_squares import Moments, damped, fitted, masked_least_squares
from onnx_unipts.reconstruction.linear_layer import LinearLayer, linear_layers
from onnx_unipts.reconstruction.moments import input_moments
from onnx_unipts.reconstruction.support import chosen_support

__all__ = [
    "LinearLayer",
    "Moments",
    "chosen_support",
    "damped",
    "fitted",
    "fitted_scores",
    "input_moments",
    "linear_layers",
    "masked_least_squares",
    "reconstruct",
    "scoring_layers",
]
