"""Checking data key by key against a schema: errors name the key and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from onnx_unipts.graph.errors import UsageError

__all__ = ["unknown_key", "validated"]

Schema = TypeVar("Schema", bound=BaseModel)


def validated(schema: type[Schema], data: Mapping[str, Any], where: str) -> Schema:
    """Return ``data`` as ``schema``. Raises `UsageError`, beginning with ``where``."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] in ("extra_forbidden", "invalid_key"):
        raise unknown_key(schema, where, ".".join(path))
    key, allowed = _allowed(schema, path)
    raise UsageError(f"{where}: key {key} is {first['input']!r}; allowed: {allowed}")


def unknown_key(schema: type[BaseModel], where: str, dotted: str) -> UsageError:
    """Return the error of the key ``dotted``, which ``schema`` has not."""
    section = schema
    for part in dotted.split(".")[:-1]:
        deeper = _section(section.model_fields.get(part))
        if deeper is None:
            break
        section = deeper
    known = {key.rpartition(".")[2]: key for key in _keys(schema)}
    close = difflib.get_close_matches(dotted.rpartition(".")[2], known, n=1)
    hint = f" (did you mean {known[close[0]]}?)" if close else ""
    allowed = ", ".join(section.model_fields)
    return UsageError(f"{where}: unknown key {dotted}{hint}; allowed here: {allowed}")


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        deeper = _section(field)
        if deeper is None:
            yield prefix + name
        else:
            yield from _keys(deeper, f"{prefix}{name}.")


def _section(field: FieldInfo | None) -> type[BaseModel] | None:
    annotation: Any = field.annotation if field is not None else None
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_section else None


def _allowed(schema: type[BaseModel], path: Sequence[str]) -> tuple[str, str]:
    """Return the dotted key of the field that ``path`` leads to, and what it may hold, in words."""
    section = schema
    for depth, part in enumerate(path, start=1):
        field = section.model_fields[part]
        deeper = _section(field)
        if deeper is None:
            return ".".join(path[:depth]), _kind(field.annotation, _range(field.metadata))
        section = deeper
    return ".".join(path), "a mapping of keys to values"


def _kind(annotation: Any, bounds: str = "") -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin is Annotated:
        return _kind(arguments[0], _range(arguments[1].metadata))
    if origin is tuple:
        if get_origin(arguments[0]) is Literal:
            return f"a list of {', '.join(get_args(arguments[0]))}"
        return "a list of numbers" if arguments[0] is float else "a list of strings"
    if origin is dict:
        return f"a mapping with {_kind(arguments[1])} for each key"
    if arguments:
        return f"{_kind(arguments[0], bounds)}, or null"
    kinds = {int: "an integer", float: "a number", bool: "true or false"}
    return kinds.get(annotation, "a string") + bounds


def _range(constraints: Iterable[Any]) -> str:
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    bounds = [
        f"{word} {getattr(constraint, name)}"
        for constraint in constraints
        for name, word in words.items()
        if hasattr(constraint, name)
    ]
    return f" {' and '.join(bounds)}" if bounds else ""
