"""Normalizations."""

from __future__ import annotations

from operator_cases.case import case, positive, spread

BATCH = {"m": spread(3), "v": positive(3)}
case(
    "batchnorm",
    "y = BatchNormalization (x, s, b, m, v)",
    x=spread(4, 3, 2, 3),
    s=positive(3),
    b=spread(3),
    constants=BATCH,
)
case(
    "batchnorm-2d",
    "y = BatchNormalization (x, s, b, m, v)",
    x=spread(4, 3),
    s=positive(3),
    b=spread(3),
    constants=BATCH,
)
case(
    "layernorm",
    "y = LayerNormalization <axis = -1> (x, s, b)",
    x=spread(2, 3, 8),
    s=positive(8),
    b=spread(8),
)
case(
    "layernorm-no-bias",
    "y = LayerNormalization <axis = 1> (x, s)",
    x=spread(2, 3, 4),
    s=positive(3, 4),
)
case(
    "layernorm-shared-constants",
    "a, m, i = LayerNormalization (x, s, b) c = Mul (a, w) y, n, j = LayerNormalization (c, s, b)",
    x=spread(2, 3, 48),
    w=spread(48),
    constants={"s": positive(48), "b": spread(48)},
)
case(
    "layernorm-equal-constants",
    "a = LayerNormalization (x, s, b) c = Mul (a, w) y = LayerNormalization (c, t, b)",
    x=spread(2, 3, 8),
    w=spread(8),
    constants={"s": positive(8), "t": positive(8), "b": spread(8)},
)
case(
    "simplified-layernorm",
    "y = SimplifiedLayerNormalization <axis = -1> (x, s)",
    x=spread(2, 3, 8),
    s=positive(8),
)
case(
    "instancenorm",
    "y = InstanceNormalization (x, s, b)",
    x=spread(2, 3, 4, 3),
    s=positive(3),
    b=spread(3),
)
case(
    "instancenorm-1d",
    "y = InstanceNormalization (x, s, b)",
    x=spread(2, 3, 7),
    s=positive(3),
    b=spread(3),
)
case(
    "groupnorm-18",
    "y = GroupNormalization <num_groups = 2> (x, s, b)",
    x=spread(2, 4, 3, 3),
    s=positive(2),
    b=spread(2),
    opset=18,
)
case(
    "groupnorm-21",
    "y = GroupNormalization <num_groups = 2> (x, s, b)",
    x=spread(2, 4, 3, 3),
    s=positive(4),
    b=spread(4),
    opset=21,
)
case("mvn", "y = MeanVarianceNormalization (x)", x=spread(2, 3, 4, 3))
case("lpnorm-2", "y = LpNormalization <axis = 1> (x)")
case("lpnorm-1", "y = LpNormalization <p = 1> (x)")
for size in (1, 3, 5):
    body = f"y = LRN <size = {size}, alpha = 0.1, beta = 0.6, bias = 1.5> (x)"
    case(f"lrn-{size}", body, x=spread(2, 6, 3, 3))
