"""Convolutions and transposed convolutions."""

from __future__ import annotations

from operator_cases.case import case, spread

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
