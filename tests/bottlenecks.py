"""A small network with a linear stream, as MobileNetV2 has them, for the tests."""

from __future__ import annotations

import numpy as np
import onnx
from small_networks import draw, images, network, outputs

BOTTLENECKS = """net (float[N,3,8,8] x) => (float[N,4] y) {
    c0 = Conv <pads = [1,1,1,1]> (x, w0, b0)
    r0 = Relu (c0)
    s1 = Conv (r0, p1, b1)
    h1 = Conv (s1, e1)
    r1 = Relu (h1)
    g1 = Conv <pads = [1,1,1,1], group = 18> (r1, dw)
    d1 = Relu (g1)
    s2 = Conv (d1, p2)
    s3 = Add (s1, s2)
    h2 = Conv (s3, e2)
    r2 = Relu (h2)
    p = GlobalAveragePool (r2)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, w3, b3)
}"""


# The same with a normalisation behind the first convolution that makes the stream.
NORMALIZED = BOTTLENECKS.replace(
    "s1 = Conv (r0, p1, b1)",
    "c1 = Conv (r0, p1, b1)\n    s1 = BatchNormalization <epsilon = 0.01> (c1, n_s, n_b, n_m, n_v)",
)


def orthogonal(width: int, seed: int) -> np.ndarray:
    """Draw an orthogonal matrix, float64 (width, width)."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0]


def bottleneck_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Draw the tensors of `BOTTLENECKS`."""
    tensors = draw(
        seed, w0=(12, 3, 3, 3), b0=(12,), p1=(6, 12, 1, 1), b1=(6,), e1=(18, 6, 1, 1),
        dw=(18, 1, 3, 3), p2=(6, 18, 1, 1), e2=(18, 6, 1, 1), w3=(4, 18), b3=(4,),
    )  # fmt: skip
    return tensors | {"w3": 4 * tensors["w3"]}


def normalized_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Draw the tensors of `BOTTLENECKS`, and n_s, n_b, n_m and n_v of a normalisation of 6."""
    rng = np.random.default_rng(seed)
    of_norm = {name: rng.uniform(0.5, 2, 6).astype(np.float32) for name in ("n_s", "n_v")}
    of_norm |= {name: rng.standard_normal(6).astype(np.float32) for name in ("n_b", "n_m")}
    return bottleneck_tensors(seed) | of_norm


def bottlenecks(seed: int = 0) -> onnx.ModelProto:
    """Return `BOTTLENECKS` with drawn weights, which answers every class about as often."""
    tensors = bottleneck_tensors(seed)
    (scores,) = outputs(network(BOTTLENECKS, tensors), {"x": images(128)})
    return network(BOTTLENECKS, tensors | {"b3": tensors["b3"] - scores.mean(axis=0)})
