"""Cases for the differentiable rules, by operator family: a module a family, each adds its own."""

from __future__ import annotations

import importlib
import pkgutil

from operator_cases.case import CASES, Arrays, Case, ints, spread

__all__ = ["CASES", "Arrays", "Case", "ints", "spread"]

for _family in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_family.name)
