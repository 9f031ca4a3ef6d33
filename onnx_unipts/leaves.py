"""The values of a nested document, each by its dotted key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["leaves_of"]


def leaves_of(document: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of ``document`` that is no mapping, or an empty one, as in ``a.b.c``."""
    if not isinstance(document, Mapping) or not document:
        yield prefix, document
        return
    for key, value in document.items():
        yield from leaves_of(value, f"{prefix}.{key}" if prefix else str(key))
