"""Operators that onnxruntime's own optimiser fuses."""

from __future__ import annotations

from operator_cases.case import case, positive, spread

CONV = {"x": spread(2, 3, 6, 6), "w": spread(4, 3, 3, 3), "b": spread(4)}
for activation, parameters in {
    "Relu": "",
    "Tanh": "",
    "LeakyRelu": ", activation_params = [0.2]",
    "Clip": ", activation_params = [0.0, 6.0]",
    "HardSigmoid": ", activation_params = [0.2, 0.5]",
}.items():
    body = f'y = com.microsoft.FusedConv <activation = "{activation}"{parameters}> (x, w, b)'
    case(f"fusedconv-{activation}", body, **CONV)
case(
    "fusedconv-addend",
    'y = com.microsoft.FusedConv <activation = "Relu", auto_pad = "SAME_UPPER"> (x, w, b, a)',
    **CONV,
    a=spread(2, 4, 6, 6),
)
case(
    "fusedgemm",
    'y = com.microsoft.FusedGemm <transB = 1, alpha = 0.5, activation = "LeakyRelu", '
    "activation_alpha = 0.2> (x, w, b)",
    x=spread(3, 4),
    w=spread(5, 4),
    b=spread(5),
)
FACTORS = {"x": spread(2, 3, 4), "w": spread(2, 5, 4)}
case("fusedmatmul", "y = com.microsoft.FusedMatMul <transB = 1, alpha = 0.3> (x, w)", **FACTORS)
case("transposematmul", "y = com.microsoft.TransposeMatMul <transB = 1> (x, w)", **FACTORS)
case(
    "fusedmatmul-batch",
    "y = com.microsoft.FusedMatMul <transA = 1, transBatchA = 1> (x, w)",
    x=spread(4, 2, 3),
    w=spread(2, 4, 5),
)
NORM = {"x": spread(2, 3, 8), "k": spread(2, 3, 8), "s": positive(8)}
case(
    "skip-layernorm",
    "y = com.microsoft.SkipLayerNormalization (x, k, s, b, c)",
    **NORM,
    b=spread(8),
    c=spread(8),
)
case(
    "skip-layernorm-sum",
    "o, , , y = com.microsoft.SkipLayerNormalization (x, k, s, b)",
    x=NORM["x"],
    k=NORM["k"],
    constants={"s": positive(8), "b": spread(8)},
)
case(
    "skip-simplified-layernorm",
    "y = com.microsoft.SkipSimplifiedLayerNormalization (x, k, s)",
    **NORM,
)
