"""The elements of a sequence whose making is known."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder, CannotRewriteError

__all__ = ["elements_of", "remove_unread_sequences"]


def remove_unread_sequences(graph: ir.Graph) -> None:
    """Remove what makes sequences that are no longer outputs: gradient builders stop at them."""
    for node in reversed(graph):
        unread = not any(value.uses() or value.is_graph_output() for value in node.outputs)
        if unread and any(isinstance(value.type, ir.SequenceType) for value in node.outputs):
            graph.remove(node, safe=True)


def elements_of(op: Builder, sequence: ir.Value) -> list[ir.Value]:
    """Return the elements of what SequenceConstruct or SplitToSequence made."""
    producer = sequence.producer()
    if producer is not None and producer.op_type == "SequenceConstruct":
        return [value for value in producer.inputs if value is not None]
    if producer is None or producer.op_type != "SplitToSequence":
        raise CannotRewriteError(f"it is unknown what the sequence {sequence.name} holds")
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
