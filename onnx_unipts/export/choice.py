"""Choosing the file format of a model: as asked for, or packed where the model can be."""

from __future__ import annotations

import os
from pathlib import Path

import onnx_ir as ir

from onnx_unipts.export.storage import FORMATS, Storage
from onnx_unipts.graph.errors import UnsupportedModelError, UsageError

__all__ = [
    "DEFAULT",
    "choose_storage",
    "default_output",
    "default_run_directory",
    "model_stem",
    "required_operators",
]

DEFAULT = "packed"
SUFFIXES = (".onnx", ".ort")


def choose_storage(
    model: ir.Model,
    path: Path,
    output: Path,
    format: str | None = None,
    pack: str = "delta8",
    values: str = "stored",
    quantize: str | None = None,
) -> tuple[Storage, str]:
    """Return how ``model``, from the file ``path``, will be stored, and a warning if not as usual.

    Without a ``format`` it is packed, or dense, with the warning, where it cannot be. Raises
    `UnsupportedModelError` where it cannot be stored in the ``format`` asked for, `UsageError` for
    unknown names and for an ``output`` that the format cannot go by.
    """
    storage = Storage(format or DEFAULT, pack, values, quantize)
    exporter = FORMATS[storage.format]()
    try:
        exporter.check(model)
    except UnsupportedModelError as error:
        if format is not None or (pack, values) != ("delta8", "stored"):
            raise UnsupportedModelError(f"{path}: {error}") from error
        return Storage("dense", quantize=quantize), f"the file will be dense: {error}"
    if exporter.suffix != ".onnx" and output.suffix != exporter.suffix:
        raise UsageError(
            f"output {output}: onnxruntime tells the format {storage.format} by its ending; give a "
            f"name that ends in {exporter.suffix}"
        )
    if not output.suffix:
        raise UsageError(
            f"output {output}: a name without an ending; give a file such as {output}.onnx, or "
            f"{output / path.name} in a directory"
        )
    if exporter.suffix == ".onnx" and output.suffix == ".ort":
        raise UsageError(
            f"output {output}: that ending is of the format ort; give --format ort, or a name that "
            "ends in .onnx"
        )
    return storage, ""


def required_operators(output: Path) -> Path:
    """Return the path of the configuration file that goes with a model in the format ort."""
    return output.with_suffix(".required_operators.config")


def default_output(model: str | os.PathLike[str], format: str | None = None) -> Path:
    """Return the path of the sparse model of the file ``model`` where none is given."""
    model = Path(model)
    return model.with_name(f"{model_stem(model)}.sparse{FORMATS[format or DEFAULT].suffix}")


def default_run_directory(output: Path) -> Path:
    """Return the path of the run directory of the sparse model ``output`` where none is given."""
    return output.with_name(f"{model_stem(output)}.run")


def model_stem(model: Path) -> str:
    """Return the name of the file ``model`` without the ending of its format.

    Other dots are part of a name: v1.0 and v1.1 are two models.
    """
    return model.stem if model.suffix.lower() in SUFFIXES else model.name
