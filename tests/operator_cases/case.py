"""A case: one small graph whose gradient is compared with finite differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
