"""Resize, by mode and coordinates."""

from __future__ import annotations

from operator_cases.case import case, floats, ints, spread

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
