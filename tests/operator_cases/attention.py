"""Attention and the embedding before it, as onnxruntime's own optimiser leaves them."""

from __future__ import annotations

import numpy as np

from operator_cases.case import case, positive, spread

MASK = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
TABLES = {"w": spread(6, 8), "p": spread(5, 8), "g": spread(2, 8), "s": positive(8), "b": spread(8)}
IDS = {"i": np.array([[1, 2, 3], [4, 0, 1]], np.int32), "t": MASK, "m": MASK}
case(
    "embed-layernorm",
    "y, n = com.microsoft.EmbedLayerNormalization (i, t, w, p, g, s, b, m)",
    **TABLES,
    constants=IDS,
)
PROJECTION = {"x": spread(2, 3, 8), "w": spread(8, 24) / 4, "b": spread(24)}
case(
    "attention-after-embedding",
    "e, n = com.microsoft.EmbedLayerNormalization (i, t, w, p, g, s, b, m) "
    "y = com.microsoft.Attention <num_heads = 2> (e, v, c, n)",
    **TABLES,
    v=PROJECTION["w"],
    c=PROJECTION["b"],
    constants=IDS,
)
case("attention", "y = com.microsoft.Attention <num_heads = 2> (x, w, b)", **PROJECTION)
case(
    "attention-masked",
    "y = com.microsoft.Attention <num_heads = 2, unidirectional = 1> (x, w, b, m)",
    **PROJECTION,
    constants={"m": MASK},
)
case(
    "attention-masked-by-query",
    "y = com.microsoft.Attention <num_heads = 2> (x, w, b, m)",
    **PROJECTION,
    constants={"m": np.tile(MASK[:, None], (1, 3, 1))},
)
case(
    "attention-biased",
    "y = com.microsoft.Attention <num_heads = 2, scale = 0.3> (x, w, b, , , e)",
    **PROJECTION,
    e=spread(2, 2, 3, 3),
)
case(
    "attention-sizes",
    "y = com.microsoft.Attention <num_heads = 2, qkv_hidden_sizes = [8, 8, 4]> (x, w, b)",
    x=spread(2, 3, 8),
    w=spread(8, 20) / 4,
    b=spread(20),
)
HEADS = {"x": spread(2, 3, 8), "k": spread(2, 4, 8), "v": spread(2, 4, 6)}
case("multihead", "y = com.microsoft.MultiHeadAttention <num_heads = 2> (x, k, v)", **HEADS)
case(
    "multihead-biased",
    "y = com.microsoft.MultiHeadAttention <num_heads = 2> (x, k, v, b, m)",
    x=spread(2, 3, 8),
    k=spread(2, 3, 8),
    v=spread(2, 3, 6),
    b=spread(22),
    constants={"m": MASK},
)
case(
    "multihead-attention-bias",
    "y = com.microsoft.MultiHeadAttention <num_heads = 2, scale = 0.4> (x, k, v, , , e)",
    **HEADS,
    e=spread(2, 2, 3, 4),
)
