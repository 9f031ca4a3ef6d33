"""GridSample, by padding and alignment."""

from __future__ import annotations

import numpy as np

from operator_cases.case import case, spread


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
case(
    "gridsample-reflection-of-one-row",
    'y = GridSample <padding_mode = "reflection", align_corners = 1> (x, g)',
    x=spread(2, 2, 1, 5),
    g=grid(1),
)
case("gridsample-microsoft", "y = com.microsoft.GridSample (x, g)", x=spread(2, 2, 4, 5), g=grid(0))
case(
    "gridsample-nearest",
    'y = GridSample <mode = "nearest"> (x, g)',
    x=spread(2, 2, 4, 5),
    g=grid(0),
    fixed=("g",),
)
