"""The elements of a sequence whose making is known."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder, CannotRewriteError

__all__ = ["elements_of", "remove_unread_sequences"]

# The operators that make sequences of which each element is known.
MAKERS = {
    "Identity",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SplitToSequence",
}


def remove_unread_sequences(graph: ir.Graph) -> None:
    """Remove what makes sequences that are no longer outputs: gradient builders stop at them."""
    for node in reversed(graph):
        unread = not any(value.uses() or value.is_graph_output() for value in node.outputs)
        if unread and any(isinstance(value.type, ir.SequenceType) for value in node.outputs):
            graph.remove(node, safe=True)


def elements_of(op: Builder, sequence: ir.Value) -> list[ir.Value]:
    """Return the elements of a sequence that is made of tensors one by one, or split."""
    producer = sequence.producer()
    kind = "" if producer is None else producer.op_type
    if producer is None or kind not in MAKERS:
        raise CannotRewriteError(f"it is unknown what the sequence {sequence.name} holds")
    given = [value for value in producer.inputs if value is not None]
    if kind in ("SequenceConstruct", "SequenceEmpty"):
        return given
    if kind == "SplitToSequence":
        return _pieces(op, producer)
    source, *others = given
    elements = elements_of(op, source)
    if kind == "SequenceInsert":
        element, *places = others
        place = int(op.constant(places[0])) if places else len(elements)
        return [*elements[:place], element, *elements[place:]]
    if kind == "SequenceErase":
        del elements[int(op.constant(others[0])) if others else -1]
    return elements


def _pieces(op: Builder, producer: ir.Node) -> list[ir.Value]:
    x, split = [*producer.inputs, None][:2]
    assert x is not None
    axis = producer.attributes.get_int("axis", 0) % op.rank(x)
    size = op.shape(x)[axis]
    parts = 1 if split is None else op.constant(split)
    if isinstance(parts, int) or parts.ndim == 0:
        ends = [*range(int(parts), size, int(parts)), size]
    else:
        ends = parts.cumsum().tolist()
    pieces = [
        op.Slice(x, [start], [end], [axis]) for start, end in zip([0, *ends], ends, strict=False)
    ]
    if split is None and not producer.attributes.get_int("keepdims", 1):
        return [op.Squeeze(piece, [axis]) for piece in pieces]
    return pieces
