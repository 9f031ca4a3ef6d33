"""YAML text, with numbers read as YAML 1.2 reads them."""

from __future__ import annotations

import re
from typing import Any

import yaml

__all__ = ["read_yaml"]

INT = "tag:yaml.org,2002:int"
FLOAT = "tag:yaml.org,2002:float"


def read_yaml(text: str) -> Any:
    """Return what ``text`` holds: 2:4 is a string and 1e-3 a number, other than in PyYAML.

    Raises `yaml.YAMLError`.
    """
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    # https://yaml.org/spec/1.2.2/#1032-tag-resolution; PyYAML follows 1.1 (2:4 is 124 there).
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (INT, FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(INT, re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    FLOAT,
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
