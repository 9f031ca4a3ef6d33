"""Single settings as the user writes them: ``key=value``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.yaml_text import read_yaml

__all__ = ["parse_settings"]


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ``key=value`` strings into a dict, values read as YAML. Raises `UsageError`."""
    settings = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"setting {assignment!r}: expected key=value, as in training.epochs=3")
        try:
            settings[key.strip()] = read_yaml(value)
        except yaml.YAMLError as error:
            raise UsageError(f"setting {assignment!r}: the value is not valid YAML") from error
    return settings
