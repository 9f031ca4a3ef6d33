"""LSTM has a gradient only forward, with explicit states and outputs; frozen weights crash it."""

from typing import Any

import onnx_ir as ir

from onnx_unipts.graph.differentiable.recurrent import (
    Pass,
    explicit,
    in_passes,
    total_bias,
    unrolled,
)
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["lstm"]


DEFAULT = ["Sigmoid", "Tanh", "Tanh"]


@RULES.register("LSTM")
def lstm(node: ir.Node, op: Builder) -> Result:
    """LSTM with explicit states and outputs, direction by direction; step by step if need be."""

    def fused(one: Pass) -> list[Any]:
        return explicit(op, op.LSTM, one)

    get = node.attributes
    names = get.get_strings("activations") or DEFAULT
    plain = list(names) == DEFAULT * (len(names) // 3) and op.inputs(8)[7] is None
    plain = plain and not (get.get_float("clip", 0.0) or get.get_int("input_forget", 0))
    run = fused if plain else lambda one: _stepwise(node, op, one)
    return in_passes(node, op, 2, DEFAULT, run)[: len(node.outputs)]


def _stepwise(node: ir.Node, op: Builder, one: Pass) -> list[Any]:
    """Unroll the equations of the specification; the gates are in the order i, o, f, c."""
    gate, candidate, output = one.activations
    recurrence = op.Transpose(op.Squeeze(one.recurrence, [0]), perm=[1, 0])
    bias = total_bias(op, one)
    size = one.hidden
    peepholes = [
        op.Slice(one.peepholes, [k * size], [(k + 1) * size], [1]) if one.peepholes else None
        for k in range(3)
    ]
    coupled = node.attributes.get_int("input_forget", 0)

    def step(x: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
        h, c = states
        gates = op.Add(op.Add(x, op.MatMul(h, recurrence)), bias)
        i, o, f, g = (op.Slice(gates, [k * size], [(k + 1) * size], [-1]) for k in range(4))
        if one.peepholes:
            i = op.Add(i, op.Mul(peepholes[0], c))
            f = op.Add(f, op.Mul(peepholes[2], c))
        i = gate(i)
        f = op.Sub(1.0, i) if coupled else gate(f)
        c = op.Add(op.Mul(f, c), op.Mul(i, candidate(g)))
        if one.peepholes:
            o = op.Add(o, op.Mul(peepholes[1], c))
        return op.Mul(gate(o), output(c)), c

    return unrolled(op, one, step)
