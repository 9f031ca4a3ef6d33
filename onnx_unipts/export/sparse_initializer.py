"""The format ``sparse-initializer``: ONNX's own sparse tensors, values with int64 indices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from onnx_unipts.export.storage import FORMATS, Storage, Written
from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError
from onnx_unipts.graph.model import (
    fits_one_file,
    load_model,
    save_model,
    stored_tensors,
    weight_bytes,
)

__all__ = ["SparseInitializer", "mark_sparse", "require_one_file"]

LEAST_OPSET = 11
# The least that a sparse tensor has to save in bytes: it takes a second name and a shape.
LEAST_GAIN = 300


@FORMATS.register("sparse-initializer")
class SparseInitializer:
    """Read by onnxruntime and by no simplifier, converter or OpenVINO: nothing should follow it."""

    suffix = ".onnx"

    def check(self, model: ir.Model) -> None:
        """Refuse opsets below 11, which know no sparse tensors, and models over 2 GB."""
        opset = model.opset_imports.get("", LEAST_OPSET)
        if opset < LEAST_OPSET:
            raise UnsupportedModelError(
                f"opset {opset} knows no sparse tensors; convert the model to opset {LEAST_OPSET} "
                "or newer (onnx.version_converter does), or use --format dense"
            )
        require_one_file(model, "sparse-initializer")

    def write(self, model: ir.Model, path: Path, storage: Storage) -> Written:
        """Write ``model`` and read it back: a wrong index would be a crash in some runtimes."""
        self.check(model)
        marked = mark_sparse(model, lambda elements: 8)
        save_model(model, path)
        load_model(path)
        stored = {tensor.values.name for tensor in onnx.load(path).graph.sparse_initializer}
        missing = sorted(weight["name"] for weight in marked if weight["name"] not in stored)
        if missing:
            raise OnnxUniptsError(
                f"{path}: {missing[0]} was not stored as a sparse initializer; this is a defect, "
                "please report it"
            )
        written = Written(storage, marked)
        if not marked:
            written.warnings.append("no weight gets smaller as a sparse initializer")
        return written


def mark_sparse(model: ir.Model, index_bytes: Callable[[int], int]) -> list[dict]:
    """Have the initializers stored sparse that are smaller so; return name and bytes of each.

    Those of the main graph that callers neither override nor see; the others are dense.
    ``index_bytes`` says how many an index of a tensor with so many elements takes.
    """
    marked = []
    for key, stored in stored_tensors(model).items():
        value, tensor = stored.value, stored.tensor
        value.meta.pop("storage", None)
        seen_outside = value.is_graph_input() or value.is_graph_output()
        if stored.scope or stored.attribute or seen_outside or tensor.dtype not in KINDS:
            continue
        array = tensor.numpy()
        count = int(np.count_nonzero(array))
        size = count * (array.itemsize + index_bytes(array.size))
        # OpenVINO and some versions of onnxruntime reject sparse tensors without a value.
        if not count or size + LEAST_GAIN > tensor.nbytes:
            continue
        value.meta["storage"] = "sparse"
        marked.append({"name": key, "kind": "sparse", "dense_bytes": tensor.nbytes})
        marked[-1]["packed_bytes"] = size
    return marked


KINDS = (
    ir.DataType.FLOAT,
    ir.DataType.FLOAT16,
    ir.DataType.DOUBLE,
    ir.DataType.INT8,
    ir.DataType.UINT8,
)


def require_one_file(model: ir.Model, name: str) -> None:
    """Raise `UnsupportedModelError` if the weights of ``model`` do not fit into one file."""
    if not fits_one_file(model):
        raise UnsupportedModelError(
            f"{weight_bytes(model) / 1e9:.1f} GB of weights; --format {name} is one file of up to "
            "2 GB: use --format packed, which may keep its weights in a data file"
        )
