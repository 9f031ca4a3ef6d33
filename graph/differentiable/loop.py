"""Loop has no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.body import inlined, is_true, require_feasible
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result
from onnx_unipts.graph.differentiable.sequence import elements_of

__all__ = ["loop"]


@RULES.register("Loop")
def loop(node: ir.Node, op: Builder) -> Result:
    """The body, as often as it is passed."""
    count, condition, *state = node.inputs
    body = node.attributes["body"].as_graph()
    times = None if count is None else _passes(op, count)
    if times is None:
        return "how often it is passed depends on the data"
    if not (is_true(op, condition) and _goes_on(op, body)):
        return "it ends by a condition"
    require_feasible(body, times)
    if times < 1:
        return "it is never passed"
    values = [value for value in state if value is not None]
    kept: list[list[ir.Value]] = []
    for index in range(times):
        arguments = [op.value(np.array(index)), op.value(np.array(True)), *values]
        _, *made = inlined(op, body, [value for value in arguments if value is not None])
        values, collected = made[: len(values)], made[len(values) :]
        kept.append([op.Unsqueeze(value, [0]) for value in collected])
    return [*values, *(op.Concat(*parts, axis=0) for parts in zip(*kept, strict=True))]


def _passes(op: Builder, count: ir.Value) -> int | None:
    """Return a ``count`` that is stored, or that of the elements of a known sequence."""
    if op.is_constant(count):
        return int(op.constant(count).reshape(()))
    maker = count.producer()
    if maker is None or maker.op_type != "SequenceLength" or maker.inputs[0] is None:
        return None
    return len(elements_of(op, maker.inputs[0]))


def _goes_on(op: Builder, body: ir.Graph) -> bool:
    """Tell whether the condition that ``body`` makes is true wherever its own is."""
    value: ir.Value | None = body.outputs[0]
    while value is not None and (maker := value.producer()) is not None:
        if maker.op_type != "Identity":
            break
        value = maker.inputs[0]
    return value is body.inputs[1] or (value is not None and is_true(op, value))
