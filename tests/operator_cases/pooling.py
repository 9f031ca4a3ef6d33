"""Pooling and unpooling."""

from __future__ import annotations

from operator_cases.case import case, spread

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
