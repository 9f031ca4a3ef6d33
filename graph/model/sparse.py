"""Sparse storage, which onnx-ir knows none of: dense in memory, sparse again in the file."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import onnx

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model.scopes import proto_graphs
from onnx_unipts.graph.model.size import PROTOBUF_LIMIT

__all__ = ["densify", "sparsify"]


def densify(proto: onnx.ModelProto) -> set[str]:
    """Turn sparse initializers and Constants into dense ones; return their names."""
    names: set[str] = set()
    for graph in proto_graphs(proto):
        if isinstance(graph, onnx.GraphProto):
            dense = {tensor.name for tensor in graph.initializer}
            for sparse in graph.sparse_initializer:
                if sparse.values.name in dense:
                    raise UnsupportedModelError(
                        f"tensor {sparse.values.name!r} is stored twice, dense and sparse, and "
                        "runtimes differ in which they use"
                    )
                graph.initializer.append(_dense_tensor(sparse))
                names.add(sparse.values.name)
            graph.ClearField("sparse_initializer")
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "sparse_value":
                    value = _dense_tensor(attribute.sparse_tensor)
                    attribute.CopyFrom(onnx.helper.make_attribute("value", value))
                    names.add(node.output[0])
    return names


def sparsify(proto: onnx.ModelProto, names: Collection[str]) -> None:
    """Turn the initializers and Constants of these names into sparse ones."""
    for graph in proto_graphs(proto):
        if isinstance(graph, onnx.GraphProto):
            for index in reversed(range(len(graph.initializer))):
                if graph.initializer[index].name in names:
                    graph.sparse_initializer.append(_sparse_tensor(graph.initializer[index]))
                    del graph.initializer[index]
        for node in graph.node:
            if node.op_type == "Constant" and node.output[0] in names:
                sparse = _sparse_tensor(node.attribute[0].t)
                del node.attribute[:]
                node.attribute.append(onnx.helper.make_attribute("sparse_value", sparse))


def _dense_tensor(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """Expand COO storage; indices are linear (nnz,) or per axis (nnz, rank), ascending.

    Raises `UnsupportedModelError` where they do not fit: some runtimes write wherever they point.
    """
    name, shape = sparse.values.name, tuple(sparse.dims)
    try:
        values = onnx.numpy_helper.to_array(sparse.values)
        indices = onnx.numpy_helper.to_array(sparse.indices)
    except Exception as error:
        raise UnsupportedModelError(
            f"sparse tensor {name!r}: its data has another length than its shape says"
        ) from error
    problem = _sparse_problem(values, indices, shape)
    if problem:
        raise UnsupportedModelError(f"sparse tensor {name!r}: {problem}; the file is damaged")
    if indices.ndim == 2:
        indices = np.ravel_multi_index(tuple(indices.T), shape) if len(shape) else indices[:, 0]
    dense = np.zeros(math.prod(shape), dtype=values.dtype)
    dense[indices] = values
    return onnx.numpy_helper.from_array(dense.reshape(shape), name)


def _sparse_problem(values: np.ndarray, indices: np.ndarray, shape: tuple[int, ...]) -> str:
    """Say what is wrong with a sparse tensor; an empty string if nothing is."""
    if any(axis < 0 for axis in shape) or math.prod(shape) > PROTOBUF_LIMIT:
        return f"its shape is {list(shape)}"
    count = len(values) if values.ndim == 1 else -1
    if indices.shape not in ((count,), (count, len(shape))):
        return f"{list(values.shape)} values have indices of shape {list(indices.shape)}"
    if not np.issubdtype(indices.dtype, np.integer):
        return f"its indices are of type {indices.dtype}"
    limits = np.array(shape) if indices.ndim == 2 else math.prod(shape)
    if ((indices < 0) | (indices >= limits)).any():
        return f"an index is outside of its shape {list(shape)}"
    linear = indices
    if indices.ndim == 2 and len(shape):
        linear = np.ravel_multi_index(tuple(indices.T), shape)
    if (np.diff(linear) <= 0).any():
        return "an index stands twice or out of order"
    return ""


def _sparse_tensor(dense: onnx.TensorProto) -> onnx.SparseTensorProto:
    array = onnx.numpy_helper.to_array(dense).reshape(-1)
    # Not by value: a negative zero is stored.
    indices = np.flatnonzero(array.view(f"u{array.itemsize}")).astype(np.int64)
    return onnx.helper.make_sparse_tensor(
        onnx.numpy_helper.from_array(array[indices], dense.name),
        onnx.numpy_helper.from_array(indices),
        list(dense.dims),
    )
