"""What a model expects of integers it is fed: below the length of a table, or one of a few."""

from __future__ import annotations

import onnx_ir as ir

from onnx_unipts.graph.model import stored_tensors

__all__ = ["compared_values", "index_limits"]

# What token ids pass on their way to the table.
_PASSED = {"Cast", "Flatten", "Gather", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


def index_limits(model: ir.Model) -> dict[str, int]:
    """Return for each input of integers that indexes stored tables the length of the shortest.

    Ids from 0 to below it are within every table that a Gather of the main graph looks them up in.
    """
    stored = {record.value: record.tensor for record in stored_tensors(model).values()}
    limits: dict[str, int] = {}
    for node in model.graph:
        if node.op_type != "Gather" or node.domain:
            continue
        table, indices = node.inputs
        source = _origin(indices)
        if table not in stored or source is None or not source.is_graph_input():
            continue
        shape = stored[table].shape.numpy()
        length = int(shape[node.attributes.get_int("axis", 0)])
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
            source = _origin(one)
            if other in stored and source is not None and source.is_graph_input():
                number = stored[other].numpy()
                if number.size == 1 and number.dtype.kind in "iu":
                    values.setdefault(str(source.name), int(number.reshape(-1)[0]))
    return values


def _origin(value: ir.Value | None) -> ir.Value | None:
    while value is not None and (node := value.producer()) is not None:
        if node.op_type not in _PASSED:
            return None
        value = node.inputs[0]
    return value
