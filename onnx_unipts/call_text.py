"""A call of the Python interface as text, for the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

__all__ = ["call_text"]

# What a call says of how a run goes, and not of what comes of it.
LEFT_OUT = (
    "command", "dry_run", "on_epoch", "on_generation", "prepared_by", "progress", "resume"
)  # fmt: skip
PLAIN = (str, int, float, bool, type(None))


def call_text(function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """Return the call of ``function`` with those of its ``arguments`` that are not the defaults.

    Values that have no short text, such as arrays, are ``...``.
    """
    words = []
    for name, parameter in signature(function).parameters.items():
        value = arguments[name]
        if parameter.kind is parameter.VAR_KEYWORD:
            words += [f"{key}={_text(v)}" for key, v in value.items() if key not in LEFT_OUT]
        elif name not in LEFT_OUT and value is not parameter.default:
            named = parameter.kind is parameter.KEYWORD_ONLY
            words.append(f"{name}={_text(value)}" if named else _text(value))
    return f"{function.__name__}({', '.join(words)})"


def _text(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return repr(value) if isinstance(value, PLAIN) else "..."
