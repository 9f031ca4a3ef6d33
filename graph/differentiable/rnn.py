"""RNN has no gradient."""

from typing import Any

import onnx_ir as ir

from onnx_unipts.graph.differentiable.recurrent import (
    Pass,
    in_passes,
    total_bias,
    unrolled,
)
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["rnn"]


@RULES.register("RNN")
def rnn(node: ir.Node, op: Builder) -> Result:
    """Tanh(x @ W^T + h @ R^T + b), step by step."""

    def run(one: Pass) -> list[Any]:
        (activation,) = one.activations
        recurrence = op.Transpose(op.Squeeze(one.recurrence, [0]), perm=[1, 0])
        bias = total_bias(op, one)

        def step(x: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
            return (activation(op.Add(op.Add(x, op.MatMul(states[0], recurrence)), bias)),)

        return unrolled(op, one, step)

    return in_passes(node, op, 1, ["Tanh"], run)[: len(node.outputs)]
