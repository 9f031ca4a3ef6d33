"""Layers by themselves: what enters them, and the weights that best give their dense outputs."""

from onnx_unipts.reconstruction.class_scores import class_means, fitted_scores, scoring_layers
from onnx_unipts.reconstruction.layer_fit import LayerFit
from onnx_unipts.reconstruction.layerwise import body_of, reconstruct
from onnx_unipts.reconstruction.least_squares import Moments, damped, fitted, masked_least_squares
from onnx_unipts.reconstruction.linear_layer import LinearLayer, linear_layers
from onnx_unipts.reconstruction.moments import (
    have_room,
    input_moments,
    input_squares,
    moments_bytes,
)
from onnx_unipts.reconstruction.pooling import layer_at_positions
from onnx_unipts.reconstruction.support import chosen_support, unsearched_layers
from onnx_unipts.reconstruction.views import FittingRuns, fitting_views

__all__ = [
    "FittingRuns",
    "LayerFit",
    "LinearLayer",
    "Moments",
    "body_of",
    "chosen_support",
    "class_means",
    "damped",
    "fitted",
    "fitted_scores",
    "fitting_views",
    "have_room",
    "input_moments",
    "input_squares",
    "layer_at_positions",
    "linear_layers",
    "masked_least_squares",
    "moments_bytes",
    "reconstruct",
    "scoring_layers",
    "unsearched_layers",
]
