"""Quantization, straight through: the gradient of clipping."""

from __future__ import annotations

import numpy as np

from operator_cases.case import case, floats, positive, scalar, spread

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

# Quantised operators: no value is clipped, so that the gradient is that of the float operator.
ZERO = {"s": scalar(0.02), "z": np.array(128, np.uint8), "ys": scalar(0.2)}
INTEGERS = np.random.default_rng(5)


def steps(x: np.ndarray, scale: float = 0.02) -> np.ndarray:
    """Return multiples of ``scale``: what they are quantised to is what they are."""
    return (np.round(x / scale) * scale).astype(np.float32)


WEIGHT = INTEGERS.integers(-9, 10, (4, 3, 3, 3)).astype(np.int8)
FLOAT_WEIGHT = (WEIGHT * np.array([0.1, 0.2, 0.15, 0.1]).reshape(4, 1, 1, 1)).astype(np.float32)
case(
    "quantised-convolution",
    "q = QuantizeLinear (x, s, z)"
    " c = QLinearConv <pads = [1, 1, 1, 1]> (q, s, z, w, ws, wz, ys, z, b)"
    " y = DequantizeLinear (c, ys, z)",
    x=spread(2, 3, 5, 5),
    smooth="y = Conv <pads = [1, 1, 1, 1]> (x, fw)",
    constants={
        **ZERO,
        "ys": scalar(0.47),
        "w": WEIGHT,
        "ws": floats(0.1, 0.2, 0.15, 0.1),
        "wz": np.zeros(4, np.int8),
        "b": np.array([100, -50, 20, 0], np.int32),
        "fw": FLOAT_WEIGHT,
    },
)
COLUMNS = INTEGERS.integers(0, 20, (4, 5)).astype(np.uint8)
FLOAT_COLUMNS = ((COLUMNS.astype(np.float32) - 10) * np.float32(0.1)).astype(np.float32)
case(
    "quantised-product",
    "q = QuantizeLinear (x, s, z) c = QLinearMatMul (q, s, z, w, ws, wz, ys, z)"
    " y = DequantizeLinear (c, ys, z)",
    smooth="y = MatMul (x, fw)",
    constants={
        **ZERO,
        "w": COLUMNS,
        "ws": scalar(0.1),
        "wz": np.array(10, np.uint8),
        "fw": FLOAT_COLUMNS,
    },
)
GEMM = {
    **ZERO,
    "w": np.ascontiguousarray(COLUMNS.T),
    "ws": scalar(0.1),
    "wz": np.array(10, np.uint8),
    "b": np.array([10, -20, 30, 0, 5], np.int32),
    "fw": FLOAT_COLUMNS,
}
case(
    "quantised-gemm",
    "q = QuantizeLinear (x, s, z)"
    " c = com.microsoft.QGemm <transB = 1, alpha = 0.5> (q, s, z, w, ws, wz, b, ys, z)"
    " y = DequantizeLinear (c, ys, z)",
    x=spread(3, 4),
    smooth="m = MatMul (x, fw) y = Mul (m, h)",
    constants={**GEMM, "h": scalar(0.5)},
)
case(
    "quantised-gemm-to-floats",
    "q = QuantizeLinear (x, s, z) y = com.microsoft.QGemm <transB = 1> (q, s, z, w, ws, wz, b)",
    x=spread(3, 4),
    smooth="y = MatMul (x, fw)",
    constants=GEMM,
)
case(
    "quantised-sum",
    "q = QuantizeLinear (x, s, z) r = QuantizeLinear (v, s, z)"
    " c = com.microsoft.QLinearAdd (q, s, z, r, s, z, ys, z) y = DequantizeLinear (c, ys, z)",
    x=spread(2, 3, 4),
    v=spread(3, 4),
    smooth="y = Add (x, v)",
    constants=ZERO,
)
case(
    "quantised-factors",
    "q = QuantizeLinear (x, s, z)"
    " c = com.microsoft.QLinearMul (q, s, z, k, s, z, ys, z) y = DequantizeLinear (c, ys, z)",
    smooth="y = Mul (x, fk)",
    constants={**ZERO, "k": np.array(178, np.uint8), "fk": scalar(1.0)},
)
case(
    "quantised-sigmoid",
    "q = QuantizeLinear (x, s, z)"
    " c = com.microsoft.QLinearSigmoid (q, s, z, s, zz) y = DequantizeLinear (c, s, zz)",
    x=steps(spread(2, 3, 4)),
    smooth="y = Sigmoid (x)",
    constants={**ZERO, "zz": np.array(0, np.uint8)},
)
case(
    "quantised-leaky-relu",
    "q = QuantizeLinear (x, s, z)"
    " c = com.microsoft.QLinearLeakyRelu <alpha = 0.5> (q, s, z, s, z)"
    " y = DequantizeLinear (c, s, z)",
    x=steps(spread(2, 3, 4)),
    smooth="y = LeakyRelu <alpha = 0.5> (x)",
    constants=ZERO,
)
case(
    "quantised-average",
    "q = QuantizeLinear (x, s, z)"
    " c = com.microsoft.QLinearAveragePool <kernel_shape = [2, 2]> (q, s, z, ys, z)"
    " m = MaxPool <kernel_shape = [1, 2]> (c) f = Flatten (m) y = DequantizeLinear (f, ys, z)",
    x=spread(2, 3, 5, 5),
    smooth="c = AveragePool <kernel_shape = [2, 2]> (x) m = MaxPool <kernel_shape = [1, 2]> (c)"
    " y = Flatten (m)",
    constants={**ZERO, "ys": scalar(0.0173)},
)
case(
    "quantised-global-average",
    "q = QuantizeLinear (x, s, z)"
    " c = com.microsoft.QLinearGlobalAveragePool (q, s, z, s, z) y = DequantizeLinear (c, s, z)",
    x=spread(2, 3, 5, 5),
    smooth="y = GlobalAveragePool (x)",
    constants=ZERO,
)
case(
    "quantised-concatenation",
    "q = QuantizeLinear (x, s, z) r = QuantizeLinear (v, ys, z)"
    " c = com.microsoft.QLinearConcat <axis = 1> (s, z, q, s, z, r, ys, z)"
    " y = DequantizeLinear (c, s, z)",
    x=spread(2, 3, 4),
    v=spread(2, 5, 4),
    smooth="y = Concat <axis = 1> (x, v)",
    constants=ZERO,
)

# Weights of a few bits, in blocks of 16 along the sum, the last of them not full.
HALVES = INTEGERS.integers(0, 256, (5, 2, 8)).astype(np.uint8)
SCALES = np.linspace(0.1, 0.2, 10).astype(np.float32)
OFFSETS = INTEGERS.integers(0, 256, (5,)).astype(np.uint8)


def weight_of(halves: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    numbers = np.stack([halves % 16, halves // 16], axis=-1).reshape(5, 2, 16)
    floats = (numbers - offsets.astype(np.float64)) * SCALES.reshape(5, 2, 1)
    return np.ascontiguousarray(floats.reshape(5, 32).T[:24]).astype(np.float32)


case(
    "four-bits",
    "y = com.microsoft.MatMulNBits <K = 24, N = 5, bits = 4, block_size = 16> (x, w, s)",
    x=spread(3, 24),
    smooth="y = MatMul (x, fw)",
    constants={"w": HALVES, "s": SCALES, "fw": weight_of(HALVES, np.array(8))},
)
case(
    "four-bits-with-zero-points",
    "y = com.microsoft.MatMulNBits <K = 24, N = 5, bits = 4, block_size = 16> (x, w, s, z)",
    x=spread(3, 24),
    smooth="y = MatMul (x, fw)",
    constants={
        "w": HALVES,
        "s": SCALES,
        "z": OFFSETS,
        "fw": weight_of(HALVES, np.stack([OFFSETS % 16, OFFSETS // 16], -1).reshape(5, 2, 1)),
    },
)

# Integers made of floats by their own range; the weight's zero point is 10.
DYNAMIC = {"w": COLUMNS, "wz": np.array(10, np.uint8), "ws": scalar(0.1), "fw": FLOAT_COLUMNS}
case(
    "dynamically-quantised-product",
    "q, s, z = DynamicQuantizeLinear (x) i = MatMulInteger (q, w, z, wz) c = Cast <to = 1> (i)"
    " t = Mul (s, ws) y = Mul (c, t)",
    smooth="y = MatMul (x, fw)",
    constants=DYNAMIC,
)
case(
    "dynamically-quantised-convolution",
    "q, s, z = DynamicQuantizeLinear (x) i = ConvInteger <pads = [1, 1, 1, 1]> (q, w, z, wz)"
    " c = Cast <to = 1> (i) t = Mul (s, ws) y = Mul (c, t)",
    x=spread(2, 3, 5, 5),
    smooth="y = Conv <pads = [1, 1, 1, 1]> (x, fw)",
    constants={
        "w": (WEIGHT + 9).astype(np.uint8),
        "wz": np.array(9, np.uint8),
        "ws": scalar(0.1),
        "fw": (WEIGHT * 0.1).astype(np.float32),
    },
)
case(
    "quantised-product-without-zero-points",
    "q = QuantizeLinear (x, s) i = MatMulInteger (q, w) c = Cast <to = 1> (i)"
    " t = Mul (s, ws) y = Mul (c, t)",
    x=steps(positive(3, 4)),
    smooth="y = MatMul (x, fw)",
    constants={**ZERO, **DYNAMIC, "fw": (COLUMNS * np.float32(0.1)).astype(np.float32)},
)
