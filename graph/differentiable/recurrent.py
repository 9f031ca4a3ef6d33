"""What LSTM, GRU and RNN share: directions, initial states, and the same cell step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import Builder, CannotRewriteError

__all__ = ["Pass", "both_biases", "explicit", "in_passes", "total_bias", "unrolled"]

SIMPLE = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
HARD_SIGMOID = 0.2, 0.5  # its alpha and beta where they are not given
Activation = Callable[[Any], Any]


@dataclass(frozen=True)
class Pass:
    """One direction of a recurrent node; the leading axis of length one is that of directions.

    ``x`` (steps, batch, inputs), in the order in which it is read; ``weight`` (1, gates * hidden,
    inputs); ``recurrence`` (1, gates * hidden, hidden); ``bias`` (1, 2 * gates * hidden) or None;
    ``states`` (1, batch, hidden) each: hidden state, and for LSTM the cell; ``peepholes``
    (1, 3 * hidden) or None; ``activations`` one function on values per gate.
    """

    x: ir.Value
    weight: ir.Value
    recurrence: ir.Value
    bias: ir.Value | None
    states: tuple[ir.Value, ...]
    peepholes: ir.Value | None
    activations: tuple[Activation, ...]
    steps: int
    hidden: int


def in_passes(
    node: ir.Node,
    op: Builder,
    states: int,
    default: Sequence[str],
    run: Callable[[Pass], Sequence[Any]],
) -> list[Any]:
    """Run each direction by itself and join the outputs: Y, then one final state per state.

    ``default`` are the activations of one direction, ``states`` the number of states.
    """
    x, weight, recurrence, bias, lengths, *rest = op.inputs(8)
    steps, batch, _ = op.shape(x)
    hidden = op.shape(recurrence)[-1]
    if node.attributes.get_int("layout", 0):
        raise CannotRewriteError("its layout is batch first, which onnxruntime cannot run")
    if lengths is not None and not (op.constant(lengths) == steps).all():
        raise CannotRewriteError("its sequences have different lengths")
    direction = node.attributes.get_string("direction", "forward")
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    zeros = np.zeros((len(backwards), batch, hidden), np.float32)
    initial = [op.value(zeros) if state is None else state for state in rest[:states]]
    names = node.attributes.get_strings("activations") or list(default) * len(backwards)
    functions = _activations(node, op, names)
    outputs = []
    for index, backward in enumerate(backwards):

        def part(value: Any, index: int = index) -> Any:
            if value is None or len(backwards) == 1:
                return value
            return op.Slice(value, [index], [index + 1], [0])

        order = list(range(steps))[::-1]
        result = list(
            run(
                Pass(
                    op.Gather(x, order, axis=0) if backward else x,
                    part(weight),
                    part(recurrence),
                    part(bias),
                    tuple(part(state) for state in initial),
                    part(rest[2]) if states == 2 else None,
                    tuple(functions[index * len(default) : (index + 1) * len(default)]),
                    steps,
                    hidden,
                )
            )
        )
        if backward:
            result[0] = op.Gather(result[0], order, axis=0)
        outputs.append(result)
    if len(backwards) == 1:
        return outputs[0]
    joined = enumerate(zip(*outputs, strict=True))
    return [op.Concat(*parts, axis=int(index == 0)) for index, parts in joined]


def _anchored(op: Builder, one: Pass) -> tuple[Any, Any]:
    """Return weight and recurrence such that both get a gradient whenever anything here does.

    The kernels of the gradient crash unless both are asked for, so that each becomes a sum with
    zero times every other operand that is not constant.
    """
    operands = [one.x, one.weight, one.recurrence, one.bias, *one.states]
    moving = [value for value in operands if value is not None and not op.is_constant(value)]
    zero = None
    for value in moving:
        first = op.Mul(op.Gather(op.Reshape(value, [-1]), 0, axis=0), 0.0)
        zero = first if zero is None else op.Add(zero, first)
    if zero is None:
        return one.weight, one.recurrence
    return op.Add(one.weight, zero), op.Add(one.recurrence, zero)


def explicit(op: Builder, operator: Callable[..., Any], one: Pass, **attributes: int) -> list[Any]:
    """Call ``operator`` forward, with every state given and every output asked for: Y, states."""
    weight, recurrence = _anchored(op, one)
    outputs: list[Any] = operator(
        one.x,
        weight,
        recurrence,
        one.bias,
        None,
        *one.states,
        hidden_size=one.hidden,
        _outputs=1 + len(one.states),
        **attributes,
    )
    return outputs


def both_biases(op: Builder, one: Pass, gates: int) -> tuple[Any, Any]:
    """Return the bias of the input and that of the state, (gates * hidden) each."""
    size = gates * one.hidden
    if one.bias is None:
        return np.zeros(size, np.float32), op.value(np.zeros(size, np.float32))
    bias = op.Squeeze(one.bias, [0])
    return op.Slice(bias, [0], [size], [0]), op.Slice(bias, [size], [2 * size], [0])


def total_bias(op: Builder, one: Pass) -> Any:
    """Return the sum of both biases, zero if there are none."""
    if one.bias is None:
        return 0.0
    return op.reduce("ReduceSum", op.Reshape(one.bias, [2, -1]), [0], keepdims=0)


def _activations(node: ir.Node, op: Builder, names: Sequence[str]) -> list[Activation]:
    """Return the activations of all directions as functions on values, clipped as the node asks.

    Those that take alpha and beta consume the node's in turn. The RNN of onnxruntime has one of
    each per direction, whatever its activation, and zero in place of a default.
    """
    alphas, betas = (
        iter(node.attributes.get_floats(f"activation_{name}", ())) for name in ("alpha", "beta")
    )
    clip = node.attributes.get_float("clip", 0.0)
    functions = []
    for name in names:
        alpha, beta = (0.0, 0.0) if node.op_type == "RNN" else HARD_SIGMOID
        if name == "HardSigmoid" or node.op_type == "RNN":
            alpha, beta = next(alphas, alpha), next(betas, beta)
        functions.append(_clipped(op, _function(op, name, alpha, beta), clip))
    return functions


def _function(op: Builder, name: str, alpha: float, beta: float) -> Activation:
    if name == "HardSigmoid":
        return lambda x: op.HardSigmoid(x, alpha=alpha, beta=beta)
    if name not in SIMPLE:
        raise CannotRewriteError(f"its activation {name} has no rule")
    simple: Activation = getattr(op, name)
    return simple


def _clipped(op: Builder, function: Activation, clip: float) -> Activation:
    return (lambda x: function(op.Clip(x, -clip, clip))) if clip else function


def unrolled(
    op: Builder, one: Pass, step: Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]
) -> list[Any]:
    """Apply ``step`` to every input in turn and return Y and the final states.

    ``step`` takes x @ W^T of one step (batch, gates * hidden) and the states (batch, hidden), and
    returns the new states, the hidden one first.
    """
    projected = op.MatMul(one.x, op.Transpose(op.Squeeze(one.weight, [0]), perm=[1, 0]))
    if one.steps > 1:
        inputs = op.Split(projected, [1] * one.steps, axis=0, _outputs=one.steps, _right=True)
    else:
        inputs = [projected]
    states = tuple(op.Squeeze(state, [0]) for state in one.states)
    hidden = []
    for value in inputs:
        states = step(op.Squeeze(value, [0]), states)
        hidden.append(op.Unsqueeze(states[0], [0, 1]))
    return [op.Concat(*hidden, axis=0), *(op.Unsqueeze(state, [0]) for state in states)]
