"""Activations, elementwise functions and dropout."""

from __future__ import annotations

import numpy as np

from operator_cases.case import case, positive, scalar, spread

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
