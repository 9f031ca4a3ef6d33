"""Graphs inside nodes."""

from __future__ import annotations

import numpy as np

from operator_cases.case import case, scalar, spread

for taken in (True, False):
    case(
        f"branches-{'first' if taken else 'second'}",
        "y = If (c) <then_branch = t () => (float[2,3,5] a) { b = MatMul (x, w) a = Tanh (b) },"
        " else_branch = e () => (float[2,3,5] d) { d = MatMul (x, v) }>",
        x=spread(2, 3, 4),
        w=spread(4, 5),
        v=spread(4, 5) / 2,
        constants={"c": np.array(taken)},
    )
LOOP = (
    "<body = b (int64 i, bool go, float[2,3] h) => (bool on, float[2,3] n, float[2,3] k)"
    " { on = Identity (go) m = MatMul (h, w) n = Tanh (m) j = Cast <to = 1> (i) k = Mul (m, j) }>"
)
case(
    "loop",
    f"times = Constant <value_int = 3> () f, s = Loop (times, , x) {LOOP}"
    " u = Unsqueeze (f, zero) y = Concat <axis = 0> (s, u)",
    x=spread(2, 3),
    w=spread(3, 3),
    constants={"zero": np.array([0])},
)
case(
    "loop-with-a-branch",
    "n = Constant <value_int = 2> () y = Loop (n, , x) <body = b (int64 i, bool go, float[2,3] h)"
    " => (bool on, float[2,3] r) { on = Identity (go) s = ReduceSum <keepdims = 0> (h)"
    " c = Greater (s, o) r = If (c) <then_branch = t () => (float[2,3] a) { a = MatMul (h, w) },"
    " else_branch = e () => (float[2,3] d) { d = Tanh (h) }> }>",
    x=spread(2, 3) + 1,
    w=spread(3, 3),
    constants={"o": scalar(0)},
)
case(
    "loop-over-a-sequence",
    "q = SequenceConstruct (x, w) n = SequenceLength (q) y = Loop (n, , x) <body = b"
    " (int64 i, bool go, float[2,3] h) => (bool on, float[2,3] r) { on = Identity (go)"
    " e = SequenceAt (q, i) r = Mul (h, e) }>",
    x=spread(2, 3),
    w=spread(2, 3) / 2,
)
SCAN = (
    "body = b (float[3] h, float[3] a) => (float[3] n, float[3] k)"
    " { s = Add (h, a) n = Tanh (s) k = Mul (n, w) }>"
)
case(
    "scan",
    f"f, s = Scan <num_scan_inputs = 1, {SCAN} (h, x) u = Unsqueeze (f, zero)"
    " y = Concat <axis = 0> (s, u)",
    x=spread(4, 3),
    h=spread(3),
    w=spread(3),
    constants={"zero": np.array([0])},
)
case(
    "scan-backward",
    "f, s = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],"
    f" scan_input_directions = [1], scan_output_directions = [1], {SCAN} (h, x)"
    " u = Unsqueeze (f, one) y = Concat <axis = 1> (s, u)",
    x=spread(3, 4),
    h=spread(3),
    w=spread(3),
    constants={"one": np.array([1])},
)
