"""How a sparse model is stored: the choice of the user, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from onnx_unipts.export.qdq import QUANTIZATIONS
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import stored_tensors
from onnx_unipts.graph.packing import choices
from onnx_unipts.graph.registry import Registry

__all__ = ["FORMATS", "VALUES", "Exporter", "Storage", "Written", "forget_sparse"]

# How values are stored: in the type that the model has, or rounded to half precision.
VALUES = ("stored", "float16")


@dataclass(frozen=True)
class Storage:
    """The file format, how weights are packed in it (``packed`` only), and their values.

    ``quantize`` is what the model was quantised to before, None for a model of floats.

    Raises `UsageError` for names that there are not, and for choices that exclude each other.
    """

    format: str = "packed"
    pack: str = "delta8"
    values: str = "stored"
    quantize: str | None = None

    def __post_init__(self) -> None:
        FORMATS[self.format]
        for option, value, known in (
            ("--pack", self.pack, choices()),
            ("--values", self.values, VALUES),
        ):
            if value not in known:
                raise UsageError(f"{option} {value!r} is unknown; known: {', '.join(known)}")
        if self.quantize is not None and self.quantize not in QUANTIZATIONS:
            raise UsageError(
                f"--quantize {self.quantize!r} is unknown; known: {', '.join(QUANTIZATIONS)}"
            )
        if self.quantize and self.values != "stored":
            raise UsageError(
                "--quantize makes integers of the weights, --values rounds floats; leave one out"
            )
        if self.format != "packed" and (self.pack, self.values) != ("delta8", "stored"):
            raise UsageError("--pack and --values are for --format packed; leave them out, or it")


@dataclass
class Written:
    """What an export wrote: ``storage``, the bytes of the weights stored in a special way by name
    and kind, further files beside the model, and what the user should know.
    """

    storage: Storage
    weights: Sequence[Mapping[str, object]] = ()
    files: Sequence[Path] = ()
    warnings: list[str] = field(default_factory=list)


class Exporter(Protocol):
    """One file format."""

    suffix: str

    def check(self, model: ir.Model) -> None:
        """Raise `UnsupportedModelError`, with the remedy, if ``model`` cannot be stored so."""

    def write(self, model: ir.Model, path: Path, storage: Storage) -> Written:
        """Write ``model``, which may be changed, to ``path``: whole or not at all."""


FORMATS: Registry[type[Exporter]] = Registry("format", "onnx_unipts.export")


def forget_sparse(model: ir.Model) -> list[str]:
    """Have the sparse initializers of ``model`` stored dense; return their names."""
    sparse = []
    for key, stored in stored_tensors(model).items():
        if stored.value.meta.get("storage") == "sparse":
            del stored.value.meta["storage"]
            sparse.append(key)
    return sparse
