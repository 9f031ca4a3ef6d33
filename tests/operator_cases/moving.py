"""Padding, cropping, slicing, splitting and scattering: values that only move."""

from __future__ import annotations

from operator_cases.case import case, ints, scalar, spread

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
