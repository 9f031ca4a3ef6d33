"""What is installed: every package of the sources, under one name."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SOURCES = {
    "onnx_unipts": "onnx_unipts",
    "onnx_unipts.graph": "graph",
    "onnx_unipts.recipes": "recipes",
}


def test_every_package_of_the_sources_is_installed():
    settings = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^packages = \[(.*?)\]", settings, re.M | re.S)
    found = set()
    for package, directory in SOURCES.items():
        root = REPOSITORY / directory
        for init in root.rglob("__init__.py"):
            found.add(".".join([package, *init.parent.relative_to(root).parts]))
    assert set(re.findall(r'"([\w.]+)"', listed)) == found
