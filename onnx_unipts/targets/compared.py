"""Which values are compared for an output: itself, or the floats that it is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

__all__ = ["compared_values", "is_compared"]

# Operators whose outputs are a choice among their inputs, which are compared instead.
DECIDING = {"TopK"}
# Operators whose outputs are integers, booleans or text where the graph does not say it.
MAKERS_OF_INTEGERS = {
    "And",
    "ArgMax",
    "ArgMin",
    "Cast",
    "Constant",
    "ConstantOfShape",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "NonMaxSuppression",
    "NonZero",
    "Not",
    "Or",
    "QuantizeLinear",
    "Shape",
    "Size",
    "TopK",
    "Xor",
}
# Operators whose outputs have as many elements as the data says; their inputs are compared instead.
SELECTING = {"Compress", "NonMaxSuppression", "NonZero", "Unique"}
# Operators whose output has the shape of their first input.
SHAPED_AS_FIRST = {"ScatterElements", "ScatterND"}
FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16}


def compared_values(model: ir.Model) -> list[tuple[ir.Value, ir.Value]]:
    """Return each output of ``model`` with each value that is compared for it."""
    ragged = _ragged(model.graph)
    return [
        pair
        for output in model.graph.outputs
        if output.producer() is not None
        for pair in _compared(output, ragged)
    ]


def _ragged(graph: ir.Graph) -> set[ir.Value]:
    """Return the values of ``graph`` whose shape depends on the data."""
    ragged: set[ir.Value] = set()
    for node in graph:
        read = node.inputs[:1] if node.op_type in SHAPED_AS_FIRST else node.inputs
        selects = node.op_type in SELECTING and not all(map(_is_given, node.inputs))
        if selects or not ragged.isdisjoint(read):
            ragged.update(v for v in node.outputs if v.shape is None or not v.shape.is_static())
    return ragged


def _compared(
    output: ir.Value, ragged: Collection[ir.Value]
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Yield ``output`` with each value to compare for it: itself, or the floats that make it."""
    if is_compared(output) and output not in ragged:
        yield output, output
        return
    seen, pending = set(), [output]
    while pending:
        node = pending.pop().producer()
        for value in node.inputs if node is not None else ():
            if value is None or value in seen or value.producer() is None:
                continue
            seen.add(value)
            comparable = _is_comparable(value) and value not in ragged
            if _may_be_float(value) and comparable and not _is_stored(value):
                yield output, value
            else:
                pending.append(value)


def _may_be_float(value: ir.Value) -> bool:
    """Tell whether ``value`` is a float, or of unknown type and not surely another one."""
    node = value.producer()
    if value.dtype is not None or node is None:
        return value.dtype is not None
    return not node.domain and node.op_type not in MAKERS_OF_INTEGERS


def is_compared(output: ir.Value) -> bool:
    """Tell whether ``output`` is compared itself."""
    node = output.producer()
    return _is_comparable(output) and (node is None or node.op_type not in DECIDING)


def _is_stored(value: ir.Value) -> bool:
    """Tell whether nothing but constants goes into ``value``."""
    return _is_given(value, shapes=False)


def _is_given(value: ir.Value | None, *, shapes: bool = True) -> bool:
    """Tell whether nothing but constants, and ``shapes`` if so, goes into ``value``."""
    pending = [value]
    seen: set[ir.Value] = set()
    while pending:
        current = pending.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        node = current.producer()
        if node is None and current.const_value is None:
            return False
        if node is not None and not (shapes and node.op_type in ("Shape", "Size")):
            pending.extend(node.inputs)
    return True


def _is_comparable(output: ir.Value) -> bool:
    if "type_proto" in output.meta:
        return False
    if output.type is not None and not isinstance(output.type, ir.TensorType):
        return False
    if output.shape is not None and not len(output.shape):
        return False
    return output.dtype is None or output.dtype in FLOATS
