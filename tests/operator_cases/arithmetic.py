"""Sums, products, powers and choices between values."""

from __future__ import annotations

import numpy as np

from operator_cases.case import case, positive, scalar, spread

case("sum", "y = Sum (x, v, w)", x=spread(2, 3, 4), v=spread(3, 1), w=spread(4))
case("sum-of-one", "y = Sum (x)")
case("mean", "y = Mean (x, v, w)", x=spread(2, 3, 4), v=spread(3, 1), w=spread(4))
case("mod", "y = Mod <fmod = 1> (x, w)", x=positive(2, 3, 4), w=positive(4), fixed=("w",))
case("pow-variable", "y = Pow (x, w)", x=positive(2, 3, 4), w=spread(3, 1))
case("pow-constant-base", "y = Pow (b, x)", constants={"b": scalar(2)})
case("pow-integer-exponent", "y = Pow (x, e)", constants={"e": np.array(3)})
case("pow-negative-base", "y = Pow (x, e)", constants={"e": scalar(2)}, broken=False)
case("matmul-vector-right", "y = MatMul (x, w)", x=spread(2, 3, 5), w=spread(5))
case("matmul-vector-left", "y = MatMul (x, w)", x=spread(5), w=spread(2, 5, 3))
case("matmul-vectors", "y = MatMul (x, w)", x=spread(5), w=spread(5))
case("one-input-twice", "y = Mul (x, x)", broken=True)
case(
    "where-broadcast",
    "y = Where (c, x, w)",
    x=spread(3, 1),
    w=spread(2, 1, 4),
    constants={"c": np.array([[True, False, True, False]])},
)

case("cast-like", "y = CastLike (x, z)", constants={"z": scalar(1)})
