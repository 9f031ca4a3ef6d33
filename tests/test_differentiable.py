"""Rewritten operators compute the same and have the gradient that finite differences show.

Each case is a small graph. Without its rule, onnxruntime-training has no gradient for it, a wrong
one, or dies: that is measured too, in a process of its own, so that no rule outlives its reason.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper, parser

from onnx_unipts.graph.differentiable import (
    RULES,
    make_differentiable,
    reached_inputs,
    stop_gradients,
)
from onnx_unipts.training.ort import GradientSession, build_gradient_graph, inference_session

SHARED = Path(__file__).parents[2] / "shared"
STEPS = (1e-2, 3e-3, 1e-3)
DIRECTIONS = 3
# Right gradients are off by less than 2e-4 here (float32, curvature), wrong ones by more than 1e-2.
TOLERANCE = 2e-3

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One graph in ONNX's text format, its output ``y``, and what it is differentiated by.

    ``values`` are inputs, those of type float differentiated unless in ``fixed``; ``constants`` are
    stored. ``smooth`` replaces the body for the finite differences of a step function, where the
    gradient is meant to be that of another one. ``broken``: wrong or missing without the rule.
    """

    body: str
    values: Arrays
    constants: Arrays = field(default_factory=dict)
    opset: int = 17
    smooth: str | None = None
    broken: bool = True
    fixed: tuple[str, ...] = ()
    dynamic: bool = False

    @property
    def parameters(self) -> list[str]:
        return [n for n, v in self.values.items() if v.dtype.kind == "f" and n not in self.fixed]


def spread(*shape: int, low: float = -2.0, high: float = 2.03) -> np.ndarray:
    """Distinct values in random order, none of them near zero: no kink is near, no maximum tied."""
    count = int(np.prod(shape))
    generator = np.random.default_rng(count)
    values = np.linspace(low, high, 2 * count + 1)[1::2]
    return generator.permutation(values).reshape(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return spread(*shape, low=0.5, high=2.0)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


CASES: dict[str, Case] = {}


def case(name: str, body: str, **settings: Any) -> None:
    """Add a case; ``x``, if not given, is a (2, 3, 4) array."""
    constants = settings.pop("constants", {})
    options = {k: settings.pop(k) for k in list(settings) if k in Case.__dataclass_fields__}
    values = settings or {"x": spread(2, 3, 4)}
    assert name not in CASES
    CASES[name] = Case(body, values, constants, **options)


# activations
case("hard-sigmoid", "y = HardSigmoid <alpha = 0.3, beta = 0.4> (x)")
case("hard-swish", "y = HardSwish (x)")
case("elu", "y = Elu <alpha = 1.5> (x)")
case("selu", "y = Selu (x)")
case("celu", "y = Celu <alpha = 0.7> (x)")
case("softplus", "y = Softplus (x)")
case("softplus-large", "y = Softplus (x)", x=spread(2, 3, 4) * 60)
case("mish", "y = Mish (x)", opset=18)
case("softsign", "y = Softsign (x)")
case("prelu", "y = PRelu (x, s)", x=spread(2, 3, 4, 4), s=positive(3, 1, 1))
case("thresholded-relu", "y = ThresholdedRelu <alpha = 0.7> (x)")
case("shrink", "y = Shrink <lambd = 0.6, bias = 0.3> (x)")
case("tan", "y = Tan (x)", x=spread(2, 3) / 2)
case("sinh", "y = Sinh (x)")
case("cosh", "y = Cosh (x)")
case("asinh", "y = Asinh (x)")
case("acosh", "y = Acosh (x)", x=positive(2, 3) + 1)
case("atanh", "y = Atanh (x)", x=spread(2, 3) / 4)
case("clip-computed-bounds", "y = Clip (x, l, h)", x=spread(2, 3, 4), l=scalar(-1), h=scalar(1))
case("dropout", "y = Dropout (x)")
case("dropout-mask", "y, m = Dropout (x)")

# what is smooth at zero has its gradient at exactly zero, too: pruning brings many values there
for smooth_at_zero, version in (
    ("Elu", 17),
    ("Celu", 17),
    ("Softplus", 17),
    ("Mish", 18),
    ("Softsign", 17),
    ("Asinh", 17),
    ("Gelu", 20),
):
    case(
        f"{smooth_at_zero.lower()}-at-zero",
        f"y = {smooth_at_zero} (x)",
        x=np.zeros((2, 3), np.float32),
        opset=version,
        broken=smooth_at_zero != "Gelu",
    )

case("acos", "y = Acos (x)", x=spread(2, 3) / 4)
case("asin", "y = Asin (x)", x=spread(2, 3) / 4)
case("atan", "y = Atan (x)", x=spread(2, 3) * 3)

# step functions, beside a path that has a gradient
for step in ("Ceil", "Floor", "Round", "Sign"):
    case(
        f"{step.lower()}-beside-a-gradient",
        f"s = {step} (x) y = Mul (s, w)",
        x=spread(2, 3, 4),
        w=spread(2, 3, 4) + 5,
        smooth=f"s = {step} (x) y = Mul (s, w)",
        fixed=("x",),
        broken=False,
    )
    case(
        f"{step.lower()}-passes-no-gradient",
        f"s = {step} (x) y = Add (s, x)",
        smooth="y = Identity (x)",
    )
case(
    "hardmax-passes-no-gradient",
    "s = Hardmax <axis = 1> (x) y = Add (s, x)",
    smooth="y = Identity (x)",
)

# sums and products
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

EINSUMS: dict[str, list[tuple[int, ...]]] = {
    "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
    "bhid,bhjd->bhij": [(2, 2, 3, 4), (2, 2, 5, 4)],
    "ij->ji": [(3, 4)],
    "ij->": [(3, 4)],
    "i,j->ij": [(3,), (4,)],
    "i,i->": [(4,), (4,)],
    "...ij,jk->...ik": [(2, 3, 4, 5), (5, 6)],
    "ij,jk": [(3, 4), (4, 5)],
    "ab,bc,cd->ad": [(2, 3), (3, 4), (4, 5)],
    "bhwc,hkc->bhwk": [(2, 3, 4, 5), (3, 6, 5)],
    "ijk,il->kl": [(2, 3, 4), (2, 5)],
    "nchw,nc->nc": [(2, 3, 4, 4), (2, 3)],
    "i,->i": [(3,), ()],
}
for equation, shapes in EINSUMS.items():
    names = "xvw"[: len(shapes)]
    operands = {n: spread(*s) if s else scalar(0.7) for n, s in zip(names, shapes, strict=True)}
    case(
        f"einsum {equation}",
        f'y = Einsum <equation = "{equation}"> ({", ".join(names)})',
        **operands,
    )

# reductions
for name in ("L1", "LogSum", "Max", "Min", "Prod", "SumSquare"):
    kind = f"Reduce{name}"
    old = f"y = {kind} <axes = [1, -1], keepdims = 0> (x)"
    case(f"{kind}-17", old, x=positive(2, 3, 4, 5))
    new = f"y = {kind} <keepdims = 1> (x, a)"
    case(f"{kind}-18", new, x=positive(2, 3, 4, 5), opset=18, constants={"a": ints(-1, 1)})
    case(f"{kind}-all", f"y = {kind} <keepdims = 0> (x)", x=positive(2, 3, 4))
    none = f"y = {kind} <noop_with_empty_axes = 1> (x, a)"
    case(f"{kind}-none", none, x=positive(2, 3), opset=18, constants={"a": ints()})
for kind in ("ReduceL2", "ReduceLogSumExp"):
    case(f"{kind}-dropped-axes", f"y = {kind} <axes = [-1], keepdims = 0> (x)")
    case(f"{kind}-kept-axes", f"y = {kind} <axes = [-1]> (x)", broken=False)
for exclusive in (0, 1):
    for reverse in (0, 1):
        body = f"y = CumSum <exclusive = {exclusive}, reverse = {reverse}> (x, a)"
        case(f"cumsum-{exclusive}{reverse}", body, constants={"a": np.array(1)})

# normalisations
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

# pooling
IMAGE = spread(2, 3, 7, 8)
POOLS: dict[str, tuple[str, bool]] = {
    "plain": ("kernel_shape = [2, 2], strides = [2, 2]", False),
    "ceil": ("kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1", False),
    "dilated": ("kernel_shape = [2, 2], dilations = [2, 2]", True),
    "lower": ('kernel_shape = [2, 2], strides = [2, 2], auto_pad = "SAME_LOWER"', True),
    "padded": ("kernel_shape = [3, 2], pads = [0, 1, 2, 0], count_include_pad = 1", False),
    "all": (
        "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1, "
        "count_include_pad = 1",
        False,
    ),
}
for name, (attributes, wrong) in POOLS.items():
    body = f"y = AveragePool <{attributes}> (x)"
    case(f"averagepool-{name}", body, x=IMAGE, opset=19, broken=wrong)
    case(f"averagepool-{name}-dynamic", body, x=IMAGE, opset=19, dynamic=True)
case(
    "averagepool-3d",
    "y = AveragePool <kernel_shape = [3, 2, 2], pads = [1, 0, 0, 1, 0, 0]> (x)",
    x=spread(1, 2, 4, 5, 5),
)
case(
    "maxpool-column-major",
    "y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], storage_order = 1> (x)",
    x=IMAGE,
)
case(
    "maxunpool",
    "p, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) "
    "y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (p, i)",
    x=spread(2, 3, 4, 4),
)
case("globalmaxpool", "y = GlobalMaxPool (x)", x=IMAGE)
case("globalmaxpool-1d", "y = GlobalMaxPool (x)", x=spread(2, 3, 5))
for p in (1, 2, 3):
    case(f"globallppool-{p}", f"y = GlobalLpPool <p = {p}> (x)", x=IMAGE)
    body = f"y = LpPool <kernel_shape = [3, 2], strides = [2, 2], pads = [1, 0, 0, 1], p = {p}> (x)"
    case(f"lppool-{p}", body, x=IMAGE)
case(
    "lppool-ceil",
    "y = LpPool <kernel_shape = [3, 2], strides = [2, 2], dilations = [2, 1], ceil_mode = 1> (x)",
    x=IMAGE,
    opset=18,
)

# convolutions
for mode in ("SAME_UPPER", "SAME_LOWER"):
    case(
        f"conv-{mode}",
        f'y = Conv <auto_pad = "{mode}", strides = [2, 2], group = 2> (x, w, b)',
        x=spread(2, 4, 6, 7),
        w=spread(4, 2, 3, 3),
        b=spread(4),
    )
TRANSPOSED: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    "plain": (
        "strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]",
        (2, 4, 4, 5),
        (4, 3, 3, 3),
    ),
    "grouped": ("strides = [2, 2], group = 2", (2, 4, 3, 3), (4, 2, 2, 2)),
    "depthwise": (
        "strides = [2, 2], group = 4, pads = [1, 0, 0, 1]",
        (2, 4, 4, 4),
        (4, 1, 3, 3),
    ),
    "stride-1": ("pads = [2, 2, 1, 3]", (1, 4, 5, 5), (4, 3, 2, 2)),
    "dilated": (
        "dilations = [2, 1], strides = [1, 2], pads = [1, 0, 2, 1]",
        (1, 4, 5, 5),
        (4, 3, 3, 3),
    ),
    "dilated-stride": ("dilations = [3, 2], strides = [2, 3]", (1, 2, 3, 3), (2, 2, 3, 2)),
    "gaps": ("strides = [3, 3]", (1, 2, 3, 3), (2, 3, 2, 2)),
    "1d": ("strides = [2], pads = [1, 1]", (2, 4, 6), (4, 3, 4)),
    "3d": ("strides = [2, 2, 2]", (1, 4, 3, 2, 2), (4, 3, 2, 2, 2)),
    "upper": ('strides = [2, 2], auto_pad = "SAME_UPPER"', (1, 4, 4, 4), (4, 3, 3, 3)),
    "lower": ('strides = [2, 2], auto_pad = "SAME_LOWER"', (1, 4, 4, 4), (4, 3, 3, 3)),
    "valid": ('strides = [2, 2], auto_pad = "VALID"', (1, 4, 4, 4), (4, 3, 3, 3)),
    "output-shape": ("strides = [2, 2], output_shape = [10, 9]", (1, 4, 5, 5), (4, 3, 3, 3)),
    "wide-output-shape": ("strides = [3, 3], output_shape = [16, 17]", (1, 4, 5, 5), (4, 3, 3, 3)),
}
for name, (attributes, data, kernel) in TRANSPOSED.items():
    groups = 4 if name == "depthwise" else 2 if name == "grouped" else 1
    case(
        f"convtranspose-{name}",
        f"y = ConvTranspose <{attributes}> (x, w, b)",
        x=spread(*data),
        w=spread(*kernel),
        b=spread(kernel[1] * groups),
    )
case(
    "convtranspose-no-bias", "y = ConvTranspose (x, w)", x=spread(1, 2, 3, 3), w=spread(2, 3, 2, 2)
)

# resizing and moving
SMALL = spread(1, 2, 4, 5)
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
for mode in ("nearest", "linear", "cubic"):
    for coordinates in COORDINATES:
        attributes = f'mode = "{mode}", coordinate_transformation_mode = "{coordinates}"'
        by_scale = f"y = Resize <{attributes}> (x, , s)"
        case(
            f"resize-{mode}-{coordinates}", by_scale, x=SMALL, constants={"s": floats(1, 1, 2, 1.5)}
        )
        by_size = f"y = Resize <{attributes}> (x, , , s)"
        case(
            f"resize-{mode}-{coordinates}-sizes",
            by_size,
            x=SMALL,
            constants={"s": ints(1, 2, 7, 3)},
        )
for rounding in ("round_prefer_ceil", "floor", "ceil"):
    case(
        f"resize-nearest-{rounding}",
        f'y = Resize <nearest_mode = "{rounding}"> (x, , s)',
        x=SMALL,
        constants={"s": floats(1, 1, 2, 1.7)},
    )
case(
    "resize-antialias",
    'y = Resize <mode = "linear", antialias = 1> (x, , , s)',
    x=spread(1, 2, 8, 9),
    opset=18,
    constants={"s": ints(1, 2, 5, 4)},
)
case(
    "resize-cubic-outside",
    'y = Resize <mode = "cubic", exclude_outside = 1, cubic_coeff_a = -0.5> (x, , s)',
    x=SMALL,
    constants={"s": floats(1, 1, 2, 2)},
)
case(
    "resize-crop",
    'y = Resize <mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize"> '
    "(x, r, , s)",
    x=SMALL,
    constants={"r": floats(0, 0, -0.2, 0.2, 1, 1, 0.8, 0.9), "s": ints(1, 2, 3, 4)},
)
case(
    "resize-axes",
    "y = Resize <axes = [3, 2]> (x, , s)",
    x=SMALL,
    opset=18,
    constants={"s": floats(2, 3)},
)
case(
    "resize-3d",
    'y = Resize <mode = "linear"> (x, , s)',
    x=spread(1, 2, 2, 3, 2),
    constants={"s": floats(1, 1, 2, 2, 2)},
)
case(
    "resize-channels-last",
    'y = Resize <mode = "linear"> (x, , s)',
    x=spread(1, 4, 5, 2),
    constants={"s": floats(1, 2, 2, 1)},
)
for mode in ("reflect", "edge", "wrap"):
    case(
        f"pad-{mode}",
        f'y = Pad <mode = "{mode}"> (x, p)',
        x=spread(2, 3, 6, 6),
        opset=19,
        constants={"p": ints(0, 0, 1, 2, 0, 0, 3, -1)},
    )
case(
    "pad-axes",
    "y = Pad (x, p, v, a)",
    x=spread(2, 3, 6, 6),
    opset=18,
    constants={"p": ints(1, 2), "v": scalar(3), "a": ints(-2)},
)
case(
    "pad-constant",
    "y = Pad (x, p)",
    x=spread(2, 3, 6, 6),
    broken=False,
    constants={"p": ints(0, 0, 1, -2, 0, 0, 3, -1)},
)
case(
    "center-crop-pad",
    "y = CenterCropPad <axes = [1, 2]> (x, s)",
    x=spread(2, 5, 4),
    opset=18,
    constants={"s": ints(2, 7)},
)
for mode in ("DCR", "CRD"):
    body = f'y = DepthToSpace <blocksize = 2, mode = "{mode}"> (x)'
    case(f"depth-to-space-{mode}", body, x=spread(2, 8, 3, 2))
case("space-to-depth", "y = SpaceToDepth <blocksize = 2> (x)", x=spread(2, 2, 6, 4))
case(
    "split-one-used",
    "a, y = Split <axis = -2> (x, p)",
    x=spread(2, 5, 4),
    constants={"p": ints(2, 3)},
)
case("split-evenly", "a, y = Split <axis = 1, num_outputs = 2> (x)", x=spread(2, 5, 4), opset=18)
STEPPED = {"a": ints(1, 2)}
case(
    "slice-negative-steps",
    "y = Slice (x, s, e, a, t)",
    x=spread(2, 6, 7),
    constants={**STEPPED, "s": ints(-1, 5), "e": ints(-100, 0), "t": ints(-1, -2)},
)
case(
    "slice-mixed-steps",
    "y = Slice (x, s, e, a, t)",
    x=spread(2, 6, 7),
    constants={**STEPPED, "s": ints(1, 100), "e": ints(6, -100), "t": ints(2, -1)},
)
case(
    "scatter-nd-add",
    'y = ScatterND <reduction = "add"> (x, i, u)',
    x=spread(3, 4),
    u=spread(2),
    opset=18,
    constants={"i": ints([0, 1], [0, 1])},
)
case(
    "scatter-elements-add",
    'y = ScatterElements <axis = 1, reduction = "add"> (x, i, u)',
    x=spread(2, 4),
    u=spread(2, 2),
    opset=18,
    constants={"i": ints([0, 1], [3, 3])},
)


def grid(aligned: int) -> np.ndarray:
    """Sampling points of a (4, 5) image, inside and around it, none near the middle of a pixel."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(-2, [6, 5], (2, 3, 4, 2)) + generator.uniform(
        0.1, 0.4, (2, 3, 4, 2)
    )
    size = np.array([5, 4])
    coordinates = 2 * pixels / (size - 1) - 1 if aligned else (2 * pixels + 1) / size - 1
    return coordinates.astype(np.float32)


for padding in ("zeros", "border", "reflection"):
    for aligned in (0, 1):
        attributes = f'padding_mode = "{padding}", align_corners = {aligned}'
        case(
            f"gridsample-{padding}-{aligned}",
            f"y = GridSample <{attributes}> (x, g)",
            x=spread(2, 2, 4, 5),
            g=grid(aligned),
        )
case("gridsample-microsoft", "y = com.microsoft.GridSample (x, g)", x=spread(2, 2, 4, 5), g=grid(0))
case(
    "gridsample-nearest",
    'y = GridSample <mode = "nearest"> (x, g)',
    x=spread(2, 2, 4, 5),
    g=grid(0),
    fixed=("g",),
)

# sequences
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
    "concat-from-sequence",
    "q = SequenceConstruct (x, w) y = ConcatFromSequence <axis = 0, new_axis = 1> (q)",
    x=spread(2, 3),
    w=spread(2, 3),
)

# quantisation, straight through: the gradient of clipping
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

# recurrent
STEP, ROWS, WIDTH, HIDDEN = 4, 2, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": "h, c", "GRU": "h", "RNN": "h"}
OTHERS: dict[str, tuple[str, str]] = {
    "LSTM": ('["Sigmoid", "Softsign", "Tanh"]', '["HardSigmoid", "Tanh", "Tanh"]'),
    "GRU": ('["Sigmoid", "Softsign"]', '["HardSigmoid", "Tanh"]'),
    "RNN": ('["Sigmoid"]', '["Softsign"]'),
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

# what onnxruntime's own optimiser leaves
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


def proto_of(case: Case, body: str) -> onnx.ModelProto:
    """Return the checked model of ``body`` with the shapes of all values inferred."""
    header = f'<ir_version: 8, opset_import: ["" : {case.opset}, "com.microsoft" : 1]>'
    proto = parser.parse_model(f"{header} g () => (float y) {{ {body} }}")
    for name, value in case.values.items():
        shape: list[Any] = list(value.shape)
        if case.dynamic:
            shape[0] = "n"
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    stored = [numpy_helper.from_array(v, k) for k, v in case.constants.items()]
    proto.graph.initializer.extend(stored)
    for index, node in enumerate(proto.graph.node):
        node.name = f"node{index}"
    y = run(proto, case.values)
    shape = ["n", *y.shape[1:]] if case.dynamic else list(y.shape)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, shape))
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def run(model: onnx.ModelProto, values: Arrays) -> np.ndarray:
    session = inference_session(model.SerializeToString())
    known = {value.name for value in session.get_inputs()}
    return np.asarray(session.run(["y"], {k: v for k, v in values.items() if k in known})[0])


def gradients(model: ir.Model, case: Case, upstream: np.ndarray) -> Arrays:
    """Return the gradient of sum(y * upstream) by each parameter that it reaches."""
    (y,) = model.graph.outputs
    factor = ir.val("upstream", ir.DataType.FLOAT, y.shape)
    product = ir.node("Mul", [y, factor])
    product.outputs[0].name = "product"
    total = ir.node("ReduceSum", product.outputs, {"keepdims": 0})
    total.outputs[0].name = "loss"
    total.outputs[0].type, total.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    model.graph.extend([product, total])
    model.graph.inputs.append(factor)
    model.graph.outputs.append(total.outputs[0])
    graph = build_gradient_graph(model, case.parameters, "loss")
    return GradientSession(graph).run({**case.values, "upstream": upstream})[1]


def worst_error(case: Case, found: Arrays, upstream: np.ndarray) -> float:
    """Return the largest relative error of ``found`` along a few directions.

    Differences are central and taken at three step sizes, of which the best counts: a kink between
    the two sides spoils a large step, rounding a small one.
    """
    reference = proto_of(case, case.smooth or case.body)
    session = inference_session(reference.SerializeToString())
    known = {value.name for value in session.get_inputs()}
    feeds = {k: v for k, v in case.values.items() if k in known}

    def loss(values: Arrays) -> float:
        y = np.asarray(session.run(["y"], values)[0], np.float64)
        return float((y * upstream).sum())

    generator = np.random.default_rng(7)
    worst = 0.0
    for name in case.parameters:
        value, gradient = case.values[name], found[name].astype(np.float64)
        if gradient.shape != value.shape:
            return float("inf")
        for _ in range(DIRECTIONS):
            direction = generator.standard_normal(value.shape)
            expected = float((gradient * direction).sum())
            scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
            errors = []
            for step in STEPS:
                sides = (
                    np.asarray(value + sign * step * direction, np.float32) for sign in (1, -1)
                )
                up, down = (loss({**feeds, name: side}) for side in sides)
                measured = (up - down) / (2 * step)
                errors.append(abs(measured - expected) / max(1e-6, scale, abs(measured)))
            worst = max(worst, min(errors))
    return worst


def measured_error(case: Case, rewrite: bool) -> float:
    """Return the error of the gradient with or without the rules, infinite if there is none."""
    proto = proto_of(case, case.body)
    model = ir.from_proto(proto)
    if rewrite:
        make_differentiable(model)
    y = run(proto, case.values)
    upstream = np.asarray(np.random.default_rng(1).standard_normal(y.shape), np.float32)
    found = gradients(model, case, upstream)
    if set(found) != set(case.parameters):
        return float("inf")
    return worst_error(case, found, upstream)


@pytest.mark.parametrize("name", CASES)
def test_a_rewritten_operator_computes_the_same(name):
    case = CASES[name]
    proto = proto_of(case, case.body)
    model = ir.from_proto(proto)
    make_differentiable(model)
    before, after = run(proto, case.values), run(ir.to_proto(model), case.values)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5 * max(1, abs(before).max()))


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_a_rewritten_operator_is_right(name):
    assert measured_error(CASES[name], rewrite=True) < TOLERANCE


def needs_its_rule(name: str) -> bool:
    """Behind step functions the builder lets no gradient pass, with or without a rule."""
    return CASES[name].broken and not name.endswith("passes-no-gradient")


@pytest.mark.parametrize("name", [name for name in CASES if needs_its_rule(name)])
def test_without_the_rule_the_gradient_is_missing_or_wrong(name):
    error = in_a_child(lambda: measured_error(CASES[name], rewrite=False))
    assert error is None or not error < 5 * TOLERANCE


def in_a_child(function: Callable[[], float]) -> float | None:
    """Return what ``function`` returns in a process of its own, None if it fails or dies."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork, as a case is not worth the start of an interpreter")
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sender.send(function())

    process = context.Process(target=work, daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()


def test_every_rule_has_a_case():
    bodies = " ".join(case.body for case in CASES.values())
    called = {word.lstrip(",") for word in bodies.split()}
    assert [name for name in RULES if name not in called] == []


def test_every_rule_says_what_the_operator_becomes():
    assert all((rule.__doc__ or "").splitlines()[0].strip() for rule in RULES.values())


def model_of(body: str, inputs: str = "float[2,3,4] x", opset: int = 17) -> ir.Model:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    proto = parser.parse_model(f"{header} g ({inputs}) => (float[a,b,c] y) {{ {body} }}")
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_the_log_names_the_operator_the_node_and_what_took_its_place():
    model = model_of("a = Relu (x) y = HardSwish (a)")
    model.graph[1].name = "act"
    assert make_differentiable(model) == ["HardSwish act: x * Clip(x / 6 + 1/2, 0, 1)"]


def test_names_of_outputs_stay():
    model = model_of("a = HardSwish (x) y = Dropout (a)")
    make_differentiable(model)
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert "a" in {value.name for node in model.graph for value in node.outputs}


def test_operators_with_a_right_gradient_are_left_alone():
    model = model_of("a = Relu (x) b = Softmax (a) y = Mul (a, b)")
    assert make_differentiable(model) == []
    assert operators(model) == ["Relu", "Softmax", "Mul"]


def test_integers_are_left_alone():
    model = model_of("i = Cast <to = 7> (x) m = ReduceMax (i) f = Cast <to = 1> (m) y = Add (x, f)")
    assert make_differentiable(model) == []


def test_a_normalisation_that_trains_is_left_alone():
    parameters = ", ".join(f"float[3] {name}" for name in "sbmv")
    model = model_of(
        "y, r, t = BatchNormalization <training_mode = 1> (x, s, b, m, v)",
        f"float[2,3,4] x, {parameters}",
    )
    assert make_differentiable(model) == []


def test_a_node_that_cannot_be_rewritten_stays_and_the_logger_says_why(caplog):
    model = model_of('e = Einsum <equation = "bii->bi"> (x) y = Mul (x, e)', "float[3,3,3] x")
    model.graph[0].name = "diagonal"
    with caplog.at_level(logging.INFO):
        assert make_differentiable(model) == []
    assert "Einsum diagonal is left as it is: the equation bii->bi takes a diagonal" in caplog.text
    assert operators(model) == ["Einsum", "Mul"]


def test_unknown_shapes_are_a_reason_to_leave_a_node(caplog):
    model = model_of("y = DepthToSpace <blocksize = 2> (x)", "float[n,c,h,w] x")
    with caplog.at_level(logging.INFO):
        assert make_differentiable(model) == []
    assert "the shape of x is not static" in caplog.text


def test_a_value_read_in_a_branch_is_replaced_there_too():
    body = """
        a = HardSwish (x)
        y = If (c) <then_branch = yes () => (float[2,3,4] t) { t = Relu (a) },
                    else_branch = no () => (float[2,3,4] f) { f = Neg (a) }>
    """
    model = model_of(body, "float[2,3,4] x, bool c")
    before = ir.to_proto(model)
    assert len(make_differentiable(model)) == 1
    for choice in (True, False):
        feeds = {"x": spread(2, 3, 4), "c": np.array(choice)}
        np.testing.assert_allclose(
            run(ir.to_proto(model), feeds), run(before, feeds), rtol=1e-5, atol=1e-6
        )


def test_what_nothing_reads_any_more_is_removed():
    proto = proto_of(CASES["quantised-signed"], QDQ)
    model = ir.from_proto(proto)
    make_differentiable(model)
    assert "QuantizeLinear" not in operators(model)
    assert {"l", "h", "s"} >= {name for name in model.graph.initializers if len(name) == 1}


def test_half_precision_constants_have_the_type_of_the_node():
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>'
        "g (float16[2,3] x) => (float16[2,3] y) { y = HardSwish (x) }"
    )
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    make_differentiable(model)
    x = spread(2, 3).astype(np.float16)
    after = run(ir.to_proto(model), {"x": x})
    expected = x * np.clip(x.astype(np.float32) / 6 + 0.5, 0, 1)
    np.testing.assert_allclose(after, expected, rtol=1e-2)


def test_a_node_without_gradient_is_cut_off_and_the_rest_is_trained():
    body = (
        "d = MatMul (x, v) e = Det (d) u = Unsqueeze (e, a) s = MatMul (x, w) t = Mul (s, u) "
        "y = Add (t, s)"
    )
    values = {"x": spread(2, 3, 3), "v": spread(3, 3), "w": spread(3, 3)}
    case = Case(body, values, {"a": ints(1, 2)}, fixed=("x", "v"))
    proto = proto_of(case, body)
    model = ir.from_proto(proto)
    make_differentiable(model)
    assert stop_gradients(model, ["v", "w"]) == ["Det node1: has no gradient"]
    assert reached_inputs(model, ["y"]) == {"x", "w"}
    y = run(proto, values)
    np.testing.assert_allclose(run(ir.to_proto(model), values), y, rtol=1e-5)
    upstream = np.ones_like(y)
    found = gradients(model, case, upstream)
    assert worst_error(case, found, upstream) < TOLERANCE


def test_a_refused_node_is_cut_off_with_the_reason():
    model = model_of('e = Einsum <equation = "bii->bi"> (x) y = Mul (x, e)', "float[3,3,3] x")
    model.graph[0].name = "diagonal"
    make_differentiable(model)
    reason = "Einsum diagonal: the equation bii->bi takes a diagonal"
    assert stop_gradients(model, ["x"]) == [reason]
    assert stop_gradients(model, ["x"]) == [reason]


def test_a_branch_that_reads_a_parameter_is_cut_off():
    model = model_of(
        """y = If (c) <then_branch = yes () => (float[2,3,4] t) { t = Relu (x) },
                       else_branch = no () => (float[2,3,4] f) { f = Neg (x) }>""",
        "float[2,3,4] x, bool c",
    )
    model.graph[0].name = "branch"
    before = ir.to_proto(model)
    assert stop_gradients(model, ["x"]) == ["If branch: has no gradient"]
    assert reached_inputs(model, ["y"]) == set()
    assert [value.name for value in model.graph.outputs] == ["y"]
    feeds = {"x": spread(2, 3, 4), "c": np.array(True)}
    np.testing.assert_allclose(run(ir.to_proto(model), feeds), run(before, feeds), atol=2e-9)


@pytest.mark.parametrize(
    "path",
    [
        "exported/own_misc_gn_prelu_grouped__dyn20.onnx",
        "exported/own_crnn_gru__dyn18.onnx",
        "exported/own_unet_convT__dyn18.onnx",
        "exported/tv_mobilenetv3_small_050__ts17.onnx",
        "exported/paddle_shufflenetv2_x025__p2o13.onnx",
        "real/pfld.onnx",
    ],
)
def test_real_graphs_compute_the_same(path):
    if not (SHARED / "models" / path).is_file():
        pytest.skip("the shared models are absent")
    from onnx_unipts.graph.cleanup import clean, freeze_batch
    from onnx_unipts.graph.model import load_model, serialize

    model = freeze_batch(clean(load_model(SHARED / "models" / path), []), 2)
    before = inference_session(serialize(model))
    assert make_differentiable(model)
    after = inference_session(serialize(model))
    feeds = {value.name: spread(*value.shape) for value in before.get_inputs()}
    for one, other in zip(before.run(None, feeds), after.run(None, feeds), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4 * max(1e-3, abs(one).max()))


def test_nothing_unused_is_left_behind(capfd):
    proto = proto_of(CASES["batchnorm"], CASES["batchnorm"].body)
    model = ir.from_proto(proto)
    make_differentiable(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 2
    onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    assert "not used" not in capfd.readouterr().err
