"""Writing a student's tensors back into the user's model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph import normalization
from onnx_unipts.graph.model import INITIALIZERS_APART, stored_tensors, write_tensors
from onnx_unipts.graph.names import Names, value_names
from onnx_unipts.student.model import Student

__all__ = ["convolution_of", "write_back"]


def write_back(
    student: Student, model: ir.Model, tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Write ``tensors`` into the user's ``model``, inserted normalisations folded; in place.

    A convolution without bias gets one where the fold needs it. What is not zero stays so in the
    type that the model stores. Returns what was written, by name.
    """
    written = dict(tensors)
    for norm in student.normalizations:
        if norm.weight is None:
            continue
        filters, bias = normalization.fold(norm, tensors)
        written[norm.weight] = filters
        name = norm.conv_bias or _add_bias(model, norm.weight, bias)
        written[name] = bias
        for own in (*norm.trained, *norm.statistics):
            del written[own]
    stored = stored_tensors(model)
    written = {n: _as_stored(t, stored[n].tensor.dtype.numpy()) for n, t in written.items()}
    write_tensors(model, written)
    return written


def convolution_of(model: ir.Model, weight: str) -> ir.Node | None:
    """Return the one Conv in the main graph of the user's model whose filter is ``weight``."""
    values = [stored_tensors(model)[weight].value]
    found = []
    for value in values:
        for node, index in value.uses():
            if node.op_type == "Identity":
                values += node.outputs
            elif node.op_type == "Conv" and index == 1:
                found.append(node)
    return found[0] if len(found) == 1 and found[0].graph is model.graph else None


def _add_bias(model: ir.Model, weight: str, bias: np.ndarray) -> str:
    node = convolution_of(model, weight)
    assert node is not None
    name = Names(value_names(model.graph)).fresh(f"{weight}/bias")
    dtype = stored_tensors(model)[weight].tensor.dtype
    tensor = ir.tensor(bias.astype(dtype.numpy()), name=name)
    shape = ir.Shape(bias.shape)
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=shape, const_value=tensor)
    model.graph.register_initializer(value)
    if model.ir_version < INITIALIZERS_APART:
        model.graph.inputs.append(value)
    node.resize_inputs(3)
    node.replace_input_with(2, value)
    return name


def _smallest(dtype: np.dtype) -> float:
    """Return the smallest number that a runtime does not take for zero."""
    if dtype == np.float16:
        return float(np.finfo(dtype).smallest_subnormal)  # the normal ones begin at 6e-5
    return float(np.finfo(dtype if dtype.kind == "f" else np.float32).tiny)  # bfloat16's, too


def _as_stored(tensor: np.ndarray, dtype: np.dtype) -> np.ndarray:
    stored = tensor.astype(dtype)
    lost = (stored == 0) & (tensor != 0)
    if lost.any():
        stored[lost] = np.copysign(_smallest(dtype), tensor[lost]).astype(dtype)
    return stored
