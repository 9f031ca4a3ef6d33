"""Sequences of tensors and of time steps."""

from __future__ import annotations

import numpy as np

from operator_cases.case import case, ints, spread

case(
    "compress",
    "y = Compress <axis = 1> (x, c)",
    constants={"c": np.array([True, False, True])},
)
case("compress-flat", "y = Compress (x, c)", constants={"c": np.array([True, False, True])})
case(
    "reverse-sequence",
    "y = ReverseSequence <batch_axis = 0, time_axis = 1> (x, l)",
    constants={"l": ints(2, 3)},
)
case(
    "reverse-sequence-of-one-length",
    "y = ReverseSequence (x, l)",
    constants={"l": ints(2, 2, 2)},
)
case(
    "sequence-at",
    "q = SplitToSequence <axis = 2> (x, s) y = SequenceAt (q, i)",
    constants={"s": ints(1, 3), "i": np.array(-1)},
)
case(
    "sequence-at-of-single",
    "q = SplitToSequence <axis = 2, keepdims = 0> (x) y = SequenceAt (q, i)",
    constants={"i": np.array(1)},
)
case(
    "concat-of-what-was-put-in",
    "e = SequenceEmpty () a = SequenceInsert (e, x) b = SequenceInsert (a, w)"
    " c = SequenceInsert (b, x, i) d = SequenceErase (c, j) k = Identity (d)"
    " y = ConcatFromSequence <axis = 0> (k)",
    x=spread(2, 3),
    w=spread(2, 3) / 2,
    constants={"i": np.array(-1), "j": np.array(0)},
)
case(
    "concat-from-sequence",
    "q = SequenceConstruct (x, w) y = ConcatFromSequence <axis = 0, new_axis = 1> (q)",
    x=spread(2, 3),
    w=spread(2, 3),
)
