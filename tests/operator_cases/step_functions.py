"""Step functions, beside a path that has a gradient."""

from __future__ import annotations

from operator_cases.case import case, spread

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
