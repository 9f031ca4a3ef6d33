"""LSTM, GRU and RNN."""

from __future__ import annotations

from typing import Any

import numpy as np

from operator_cases.case import case, spread

STEP, ROWS, WIDTH, HIDDEN = 4, 2, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": "h, c", "GRU": "h", "RNN": "h"}
OTHERS: dict[str, tuple[str, str]] = {
    "LSTM": ('["Sigmoid", "Softsign", "Tanh"]', '["HardSigmoid", "Tanh", "Tanh"]'),
    "GRU": ('["Sigmoid", "Softsign"]', '["HardSigmoid", "Tanh"]'),
    "RNN": ('["Sigmoid"]', '["Softsign"]'),
}
# By direction, with the alphas and betas of the HardSigmoids; RNN has them for other gates, too.
BY_DIRECTION = {
    "LSTM": '["HardSigmoid", "Tanh", "Tanh", "HardSigmoid", "Tanh", "Tanh"]',
    "GRU": '["Sigmoid", "HardSigmoid", "HardSigmoid", "Tanh"]',
    "RNN": '["Tanh", "HardSigmoid"]',
}


def recurrent(name: str, kind: str, call: str, ways: int = 1, **settings: Any) -> None:
    gates = GATES[kind] * HIDDEN
    constant = settings.pop("constant", "")
    arrays = {
        "x": spread(STEP, ROWS, WIDTH),
        "w": spread(ways, gates, WIDTH) / 2,
        "r": spread(ways, gates, HIDDEN) / 2,
        "b": spread(ways, 2 * gates) / 2,
        "h": spread(ways, ROWS, HIDDEN) / 2,
        "c": spread(ways, ROWS, HIDDEN) / 2,
        "p": spread(ways, 3 * HIDDEN) / 2,
    }
    read = call[call.rindex("(") + 1 : -1].replace(" ", "").split(",")
    arrays = {key: value for key, value in arrays.items() if key in read}
    constants = {**settings.pop("constants", {}), **{key: arrays.pop(key) for key in constant}}
    case(f"{kind}-{name}", call, **arrays, constants=constants, **settings)


for kind in GATES:
    size = f"hidden_size = {HIDDEN}"
    with_states = f"(x, w, r, b, , {STATES[kind]})"
    relu, hard = OTHERS[kind]
    recurrent("defaults", kind, f"y = {kind} <{size}> (x, w, r, b)")
    recurrent("no-bias", kind, f"y = {kind} <{size}> (x, w, r)")
    missing = kind == "RNN"  # the others are right when all is given and asked for
    recurrent("states", kind, f"y = {kind} <{size}> {with_states}", broken=missing)
    recurrent("last", kind, f", y = {kind} <{size}> (x, w, r, b)")
    recurrent("frozen", kind, f"y = {kind} <{size}> (x, w, r, b)", constant="wrb")
    recurrent("frozen-but-bias", kind, f"y = {kind} <{size}> (x, w, r, b)", constant="xwr")
    recurrent("frozen-inputs", kind, f"y = {kind} <{size}> (x, w, r, b)", fixed=("w", "r"))
    backwards = f'y = {kind} <{size}, direction = "reverse"> {with_states}'
    recurrent("reverse", kind, backwards)
    both = f'y = {kind} <{size}, direction = "bidirectional"> {with_states}'
    recurrent("bidirectional", kind, both, ways=2)
    recurrent("bidirectional-last", kind, both.replace("y =", ", y ="), ways=2)
    recurrent("activations", kind, f"y = {kind} <{size}, activations = {relu}> {with_states}")
    recurrent("hard-activations", kind, f"y = {kind} <{size}, activations = {hard}> (x, w, r, b)")
    slopes = "activation_alpha = [0.2, 0.4], activation_beta = [0.5, 0.3]"
    ways = f'direction = "bidirectional", activations = {BY_DIRECTION[kind]}, {slopes}'
    recurrent("activations-by-direction", kind, f"y = {kind} <{size}, {ways}> (x, w, r, b)", ways=2)
    recurrent("clipped", kind, f"y = {kind} <{size}, clip = 0.9> (x, w, r, b)")
    recurrent(
        "full-lengths",
        kind,
        f"y = {kind} <{size}> (x, w, r, b, l)",
        constants={"l": np.full(ROWS, STEP, np.int32)},
    )
recurrent(
    "linear", "GRU", f"y = GRU <hidden_size = {HIDDEN}, linear_before_reset = 1> (x, w, r, b)"
)
recurrent(
    "linear-activations",
    "GRU",
    f"y = GRU <hidden_size = {HIDDEN}, linear_before_reset = 1, "
    f"activations = {OTHERS['GRU'][0]}> (x, w, r, b)",
)
recurrent("cell", "LSTM", f", , y = LSTM <hidden_size = {HIDDEN}> (x, w, r, b)")
recurrent("coupled", "LSTM", f"y = LSTM <hidden_size = {HIDDEN}, input_forget = 1> (x, w, r, b)")
recurrent("peepholes", "LSTM", f"y = LSTM <hidden_size = {HIDDEN}> (x, w, r, b, , h, c, p)")
