"""Quantization, straight through: the gradient of clipping."""

from __future__ import annotations

import numpy as np

from operator_cases.case import case, floats, scalar, spread

QDQ = "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z)"
case(
    "quantised-signed",
    QDQ,
    x=spread(2, 3, 4) * 5,
    smooth="y = Clip (x, l, h)",
    constants={"s": scalar(0.05), "z": np.array(3, np.int8), "l": scalar(-6.55), "h": scalar(6.2)},
)
case(
    "quantised-unsigned",
    QDQ,
    x=spread(2, 3, 4) * 5,
    smooth="y = Clip (x, l, h)",
    constants={
        "s": scalar(0.05),
        "z": np.array(128, np.uint8),
        "l": scalar(-6.4),
        "h": scalar(6.35),
    },
)
case(
    "quantised-by-channel",
    "q = QuantizeLinear <axis = 1> (x, s, z) y = DequantizeLinear <axis = 1> (q, s, z)",
    x=spread(2, 3, 4) * 2,
    smooth="a = Max (x, l) y = Min (a, h)",
    constants={
        "s": floats(0.05, 0.01, 0.02),
        "z": np.array([0, 10, -10], np.int8),
        "l": floats([-6.4], [-1.38], [-2.36]),
        "h": floats([6.35], [1.17], [2.74]),
    },
)
