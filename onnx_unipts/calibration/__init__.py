"""Calibration data: inputs for a model from images, arrays, scripts, or made up."""

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.iterable import rereadable
from onnx_unipts.calibration.preprocessing import Preprocessing
from onnx_unipts.calibration.signature import InputSpec, input_signature, parse_input_shapes
from onnx_unipts.calibration.source import is_synthetic, load_calibration_data, require_batch

__all__ = [
    "CalibrationData",
    "InputSpec",
    "Preprocessing",
    "input_signature",
    "is_synthetic",
    "load_calibration_data",
    "parse_input_shapes",
    "require_batch",
    "rereadable",
]
