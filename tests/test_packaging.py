"""What is installed: every package of the sources, under one name."""

from __future__ import annotations

import re
import subprocess
import sys
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


# Each with nothing of the package loaded before, in one process: libraries stay.
IMPORTING = """
import gc, importlib, sys
import numpy, onnx, onnx_ir, pydantic, rich.progress
gc.freeze()
for module in sys.argv[1:]:
    for loaded in [name for name in sys.modules if name.startswith("onnx_unipts")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(module)
        from onnx_unipts.graph.packing import unpack
        assert callable(unpack)
    except Exception as error:
        print(module, repr(error))
"""


def test_every_module_can_be_the_first_that_is_imported():
    modules = []
    for package, directory in SOURCES.items():
        for file in sorted((REPOSITORY / directory).rglob("*.py")):
            parts = file.relative_to(REPOSITORY / directory).with_suffix("").parts
            modules.append(".".join([package, *(part for part in parts if part != "__init__")]))
    asked = [m for m in dict.fromkeys(modules) if "__main__" not in m and "olive" not in m]
    assert len(asked) > 300
    halves = [
        subprocess.Popen([sys.executable, "-c", IMPORTING, *part], stdout=subprocess.PIPE)
        for part in (asked[::2], asked[1::2])
    ]
    assert [half.communicate()[0] for half in halves] == [b"", b""]
    assert [half.returncode for half in halves] == [0, 0]
