"""Cuts the gradient where an operator has none, so that the rest of a graph can be trained."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder, rule_name
from onnx_unipts.graph.names import Names, taken_names

__all__ = ["partly_reached_inputs", "reached_inputs", "stop_gradients"]

# Those whose gradient agreed with finite differences, in the forms that the rules leave behind.
DIFFERENTIABLE = frozenset(
    [
        "Abs",
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "Cos",
        "Div",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "GRU",
        "Gather",
        "GatherElements",
        "GatherND",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "Identity",
        "LSTM",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mul",
        "Neg",
        "Pad",
        "Pow",
        "Reciprocal",
        "ReduceL2",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "ScatterElements",
        "ScatterND",
        "Sigmoid",
        "Sin",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Tile",
        "TopK",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
        "com.microsoft.BiasGelu",
        "com.microsoft.FastGelu",
        "com.microsoft.Gelu",
        "com.microsoft.QuickGelu",
    ]
)


def stop_gradients(model: ir.Model, parameters: Collection[str]) -> list[str]:
    """Let no gradient pass, in place, where a path from ``parameters`` meets a node without one.

    To be called after `make_differentiable`; ``parameters`` are names of inputs of the graph. What
    such a node computes stays the same to an absolute precision of 1e-9 (up to values of 8e9).

    Returns one line per node: operator, name and reason.
    """
    graph = model.graph
    names = Names(taken_names(graph))
    reached = {value for value in graph.inputs if value.name in parameters}
    stopped = []
    for node in list(graph):
        floats = [value for value in node.outputs if is_float(value)]
        sequences = [value for value in floats if isinstance(value.type, ir.SequenceType)]
        outputs = [value for value in floats if value not in sequences and _passes_on(value)]
        if reached.isdisjoint(_read(node)):
            for output in outputs if _captures_computed(node) else ():
                _stop(graph, node, output, names)
            continue
        reached.update(sequences)  # stopped where a tensor is taken out
        reason = node.meta.get("undifferentiable")
        if reason is None and rule_name(node) in DIFFERENTIABLE:
            reached.update(outputs)
            continue
        for output in outputs:
            _stop(graph, node, output, names)
        if outputs:
            node.meta["stopped"] = True
            stopped.append(f"{node.op_type} {node.name}: {reason or 'has no gradient'}")
    return stopped


def partly_reached_inputs(model: ir.Model) -> set[str]:
    """Return the inputs of the graph from which a path of floats leads to a stopped node.

    After `stop_gradients` their gradients leave out what goes that way.
    """
    stopped = (node for node in model.graph if node.meta.get("stopped"))
    read = (value for node in stopped for value in _read(node))
    return _inputs_before(model, [value for value in read if is_float(value)])


def reached_inputs(model: ir.Model, outputs: Collection[str]) -> set[str]:
    """Return the inputs of the graph from which a path of floats leads to ``outputs``.

    After `stop_gradients` these are the inputs that have a gradient.
    """
    return _inputs_before(model, [v for v in model.graph.outputs if v.name in outputs])


def _inputs_before(model: ir.Model, values: Sequence[ir.Value]) -> set[str]:
    """Return the inputs of the graph from which a path of floats leads to any of ``values``."""
    pending = list(values)
    seen = set(pending)
    while pending:
        producer = pending.pop().producer()
        for value in _read(producer) if producer is not None else ():
            if value not in seen and is_float(value):
                seen.add(value)
                pending.append(value)
    return {value.name for value in model.graph.inputs if value in seen and value.name}


def is_float(value: ir.Value) -> bool:
    """Say whether ``value`` can have a gradient: its type is a float, or unknown."""
    return value.dtype is None or value.dtype.is_floating_point()


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """Yield what ``node`` and the graphs inside it read."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                yield from (value for value in inner.inputs if value is not None)


def _captures_computed(node: ir.Node) -> bool:
    """Say whether a graph inside ``node`` reads what a node outside computes.

    The gradient builder ends its process where it walks back to such a node, reached or not.
    """
    captured = set(_read(node)) - set(node.inputs)
    makers = (value.producer() for value in captured)
    return any(maker is not None and maker.graph is node.graph for maker in makers)


def _passes_on(value: ir.Value) -> bool:
    """Say whether ``value`` goes anywhere but into a Cast to integers, which no gradient passes."""
    return value.is_graph_output() or any(
        user.op_type != "Cast" or any(is_float(result) for result in user.outputs)
        for user in value.consumers()
    )


def _stop(graph: ir.Graph, node: ir.Node, output: ir.Value, names: Names) -> None:
    builder = Builder(node, graph, names)
    uses = tuple(output.uses())
    stopped = builder.stop(output)
    for initializer in builder.initializers:
        graph.register_initializer(initializer)
    graph.insert_after(node, builder.nodes)
    for user, index in uses:
        user.replace_input_with(index, stopped)
    for index, value in enumerate(graph.outputs):
        if value is output:
            graph.outputs[index] = stopped
    stopped.shape = output.shape
    stopped.name, output.name = output.name, stopped.name
