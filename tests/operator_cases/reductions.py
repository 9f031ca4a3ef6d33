"""Reductions and running sums."""

from __future__ import annotations

import numpy as np

from operator_cases.case import case, ints, positive

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
