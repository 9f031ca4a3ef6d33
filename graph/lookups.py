"""What a model expects of its inputs: integers below the length of a table, sizes of axes."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from onnx_unipts.graph.model import stored_tensors

__all__ = ["compared_values", "index_limits", "read_sizes"]

# The operators that say how long an axis of their data is: what passes an input on unchanged.
_UNCHANGED = {"Cast", "Identity"}

# What token ids pass on their way to the table.
_PASSED = {
    "Cast",
    "ConcatFromSequence",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "SequenceAt",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
# Those of them that hand on a part.
_PICKING = {"Gather", "SequenceAt"}


def index_limits(model: ir.Model, whole: bool = False) -> dict[str, int]:
    """Return for each input of integers that indexes stored tables the length of the shortest.

    Ids from 0 to below it are within every table that a Gather of the main graph looks them up in,
    be it all of the input or, unless asked for inputs that are looked up ``whole``, a part of it.
    """
    stored = {record.value: record.tensor for record in stored_tensors(model).values()}
    limits: dict[str, int] = {}
    for node in model.graph:
        if node.op_type != "Gather" or node.domain:
            continue
        table, indices = node.inputs
        if table not in stored:
            continue
        shape = stored[table].shape.numpy()
        length = int(shape[node.attributes.get_int("axis", 0)])
        for source in _origins(indices, _PASSED - _PICKING if whole else _PASSED):
            name = str(source.name)
            limits[name] = min(length, limits.get(name, length))
    return limits


def compared_values(model: ir.Model) -> dict[str, int]:
    """Return for each input of integers that Equal compares with a stored number that number.

    A sampling rate, say, by which the model chooses a branch.
    """
    stored = {record.value: record for record in stored_tensors(model).values()}
    values: dict[str, int] = {}
    for node in model.graph:
        if node.op_type != "Equal" or node.domain:
            continue
        for one, other in (node.inputs, node.inputs[::-1]):
            number = stored[other].numpy() if other in stored else None
            if number is None or number.size != 1 or number.dtype.kind not in "iu":
                continue
            for source in _origins(one):
                values.setdefault(str(source.name), int(number.reshape(-1)[0]))
    return values


def read_sizes(model: ir.Model) -> dict[str, dict[int, int]]:
    """Return for each input that a layer reads directly how long the layer's weight has its axes.

    As ``{name: {axis: length}}``: the channels of a Conv, the last axis before a MatMul or Gemm,
    the features of a recurrent layer.
    """
    sizes: dict[str, dict[int, int]] = {}
    for node in model.graph:
        data, weight = (*node.inputs[:2], None, None)[:2]
        while data is not None and (maker := data.producer()) is not None:
            data = maker.inputs[0] if maker.op_type in _UNCHANGED else None
        if node.domain or data is None or weight is None or data.shape is None:
            continue
        if data.name in model.graph.initializers or weight.shape is None:
            continue
        found = _read_axis(node, list(weight.shape), len(data.shape))
        if found is not None and isinstance(found[1], int) and found[0] < len(data.shape):
            sizes.setdefault(str(data.name), {})[found[0]] = found[1]
    return sizes


def _read_axis(
    node: ir.Node, weight: list[int | ir.SymbolicDim], rank: int
) -> tuple[int, int | ir.SymbolicDim] | None:
    """Return the axis of the data that ``node`` sums over, and how long its ``weight`` says."""
    if node.op_type == "Conv" and len(weight) > 2 and isinstance(weight[1], int):
        return 1, weight[1] * node.attributes.get_int("group", 1)
    if node.op_type == "Gemm" and len(weight) == 2 and not node.attributes.get_int("transA", 0):
        return 1, weight[node.attributes.get_int("transB", 0)]
    if node.op_type == "MatMul" and len(weight) > 1 and rank > 1:
        return rank - 1, weight[-2]
    if node.op_type in ("GRU", "LSTM", "RNN") and len(weight) == 3:
        return 2, weight[2]
    return None


def _origins(value: ir.Value | None, passed: Collection[str] = _PASSED) -> list[ir.Value]:
    """Return the inputs that ``value`` holds values of: one, or all elements of a sequence."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "SequenceConstruct":
            return [origin for element in node.inputs for origin in _origins(element, passed)]
        if node.op_type not in passed:
            return []
        value = node.inputs[0]
    return [value] if value is not None and value.is_graph_input() else []
