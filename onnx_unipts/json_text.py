"""JSON text of documents that hold numpy values and paths."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["plain", "to_json"]


def plain(value: Any, *, strict: bool = True) -> Any:
    """Return ``value`` as JSON knows it: numpy values unwrapped, paths as text, tuples as lists.

    NaN and the infinities, which JSON does not have, become None; without ``strict`` they stay,
    for files that only Python reads back.
    """
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist(), strict=strict)
    if isinstance(value, Mapping):
        return {str(key): plain(item, strict=strict) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, strict=strict) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if strict and isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(document: Any) -> str:
    """Return ``document`` as indented JSON. Raises `TypeError` for what `plain` cannot unwrap.

    Bytes of file names that are no text are escaped, as JSON has them: UTF-8 cannot hold them.
    """
    text = json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
