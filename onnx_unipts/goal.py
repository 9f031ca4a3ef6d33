"""Goals that stand in for a sparsity: a size of the file, or a drop of accuracy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.report.text import measured_text, size_text
from onnx_unipts.targets import Target

__all__ = ["Goal", "drop_of", "parse_goal", "require_class_scores"]

Kind = Literal["size", "zipped", "drop"]

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}
NO_CLASSES = (
    "target drop needs class scores among the model's outputs, to tell agreement or accuracy; give "
    "--sparsity"
)
ALLOWED = "give size=2MB, zipped=500kB or drop=1%"


@dataclass(frozen=True)
class Goal:
    """What a compression is to reach: ``limit`` is bytes for sizes, a share for a drop.

    ``size`` is that of the written file, ``zipped`` that of the file once compressed, ``drop`` what
    accuracy may fall by; where there are no labels, what agreement may fall by from 1.
    """

    kind: Kind
    limit: float

    def __str__(self) -> str:
        if self.kind == "drop":
            return f"drop of at most {100 * self.limit:g} %"
        return f"{'file' if self.kind == 'size' else 'zipped file'} of {size_text(int(self.limit))}"

    def measure(self, report: Mapping[str, Any]) -> float:
        """Return what the run of ``report`` reached, in the unit of the limit."""
        if self.kind == "drop":
            return drop_of(report)
        return float(report["output"]["bytes" if self.kind == "size" else "bytes_zipped"])

    def reached_by(self, value: float) -> bool:
        """Return whether the measured ``value`` is within the limit."""
        return value <= self.limit + 1e-9  # one sample in a hundred is one percent

    def shown(self, value: float) -> str:
        """Return a measured ``value`` as text."""
        return measured_text(self.kind, value)


def parse_goal(text: str) -> Goal:
    """Return the goal that ``text`` names, as in ``drop=1%``. Raises `UsageError`."""
    kind, equals, value = (part.strip() for part in text.partition("="))
    if not equals or kind not in ("size", "zipped", "drop"):
        raise UsageError(f"target {text!r} is not known; {ALLOWED}")
    if kind == "drop":
        return Goal("drop", _share(value, text))
    return Goal("size" if kind == "size" else "zipped", _bytes(value, text))


def require_class_scores(targets: Sequence[Target]) -> None:
    """Raise `UsageError` where what is compared of a model, ``targets``, tells no drop."""
    if all(target.kind != "classes" for target in targets):
        raise UsageError(NO_CLASSES)


def drop_of(report: Mapping[str, Any]) -> float:
    """Return by how much accuracy fell, or agreement from 1 where there are no labels.

    Raises `UsageError` where neither was measured.
    """
    accuracy = report.get("accuracy") or {}
    if "after_recovery" in accuracy:
        return float(accuracy["dense"] - accuracy["after_recovery"])
    after = (report.get("fidelity") or {}).get("after_recovery") or {}
    if after.get("agreement") is None:
        raise UsageError(NO_CLASSES)
    return 1.0 - float(after["agreement"])


def _share(value: str, text: str) -> float:
    number = value.removesuffix("%")
    try:
        share = float(number) / (100 if number != value else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise UsageError(f"target {text!r}: a drop is a share such as 1% or 0.01")
    return share


def _bytes(value: str, text: str) -> float:
    match = re.fullmatch(r"([\d.]+)\s*([a-z]*)", value.lower())
    unit = UNITS.get(match[2]) if match else None
    try:
        size = float(match[1]) * unit if match and unit else 0.0
    except ValueError:
        size = 0.0
    if size <= 0:
        raise UsageError(f"target {text!r}: a size is a number with kB, MB or GB, such as 2MB")
    return size
