"""YAML text, with numbers read and written as YAML 1.2 has them."""

from __future__ import annotations

import re
from typing import Any

import yaml

__all__ = ["read_yaml", "write_yaml"]

INT = "tag:yaml.org,2002:int"
FLOAT = "tag:yaml.org,2002:float"


def read_yaml(text: str) -> Any:
    """Return what ``text`` holds: 2:4 is a string and 1e-3 a number, other than in PyYAML.

    Raises `yaml.YAMLError`, also for a key that is given twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of many digits
        raise yaml.YAMLError(str(error)) from error


def write_yaml(content: Any) -> str:
    """Return text that `read_yaml` reads back to equal ``content``: plain data, keys in order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False)


class _Loader(yaml.SafeLoader):
    # https://yaml.org/spec/1.2.2/#1032-tag-resolution; PyYAML follows 1.1 (2:4 is 124 there).
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (INT, FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node


_Loader.add_implicit_resolver(INT, re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    FLOAT,
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


class _Dumper(yaml.SafeDumper):
    # What the reader takes for a number has to be quoted where it is text.
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
