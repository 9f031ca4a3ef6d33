"""Writing sparse models: one file format per file, chosen by name."""

from onnx_unipts.export.choice import (
    choose_storage,
    default_output,
    default_run_directory,
    model_stem,
    required_operators,
)
from onnx_unipts.export.storage import FORMATS, VALUES, Exporter, Storage, Written

__all__ = [
    "FORMATS",
    "VALUES",
    "Exporter",
    "Storage",
    "Written",
    "choose_storage",
    "default_output",
    "default_run_directory",
    "model_stem",
    "required_operators",
]
