"""GRU has a gradient only forward, with explicit states and outputs; frozen weights crash it."""

from typing import Any

import onnx_ir as ir

from onnx_unipts.graph.differentiable.recurrent import (
    Pass,
    both_biases,
    explicit,
    in_passes,
    unrolled,
)
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["gru"]


DEFAULT = ["Sigmoid", "Tanh"]


@RULES.register("GRU")
def gru(node: ir.Node, op: Builder) -> Result:
    """GRU with explicit states and outputs, direction by direction; step by step if need be."""

    linear_first = node.attributes.get_int("linear_before_reset", 0)

    def fused(one: Pass) -> list[Any]:
        return explicit(op, op.GRU, one, linear_before_reset=linear_first)

    names = node.attributes.get_strings("activations") or DEFAULT
    plain = list(names) == DEFAULT * (len(names) // 2)
    plain = plain and not node.attributes.get_float("clip", 0.0)
    run = fused if plain else lambda one: _stepwise(node, op, one)
    return in_passes(node, op, 1, DEFAULT, run)[: len(node.outputs)]


def _stepwise(node: ir.Node, op: Builder, one: Pass) -> list[Any]:
    """Unroll the equations of the specification; the gates are in the order z, r, h."""
    gate, candidate = one.activations
    recurrence = op.Transpose(op.Squeeze(one.recurrence, [0]), perm=[1, 0])
    size = one.hidden
    for_gates = op.Slice(recurrence, [0], [2 * size], [1])
    for_candidate = op.Slice(recurrence, [2 * size], [3 * size], [1])
    input_bias, state_bias = both_biases(op, one, 3)
    linear_first = node.attributes.get_int("linear_before_reset", 0)

    def piece(value: Any, first: int, last: int) -> Any:
        return op.Slice(value, [first * size], [last * size], [-1])

    def step(x: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
        (h,) = states
        x = op.Add(x, input_bias)
        linear = op.Add(op.MatMul(h, for_gates), piece(state_bias, 0, 2))
        gates = gate(op.Add(piece(x, 0, 2), linear))
        z, r = piece(gates, 0, 1), piece(gates, 1, 2)
        if linear_first:
            memory = op.Mul(r, op.Add(op.MatMul(h, for_candidate), piece(state_bias, 2, 3)))
        else:
            memory = op.Add(op.MatMul(op.Mul(r, h), for_candidate), piece(state_bias, 2, 3))
        proposed = candidate(op.Add(piece(x, 2, 3), memory))
        return (op.Add(op.Mul(op.Sub(1.0, z), proposed), op.Mul(z, h)),)

    return unrolled(op, one, step)
