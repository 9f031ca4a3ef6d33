"""Make a trained ONNX model sparse, with a handful of inputs and no training framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_unipts.api import Result, compress, evaluate, inspect, search
    from onnx_unipts.recipe import Recipe, load_recipe

__all__ = ["Recipe", "Result", "compress", "evaluate", "inspect", "load_recipe", "search"]

_HOMES = {"Recipe": "onnx_unipts.recipe", "load_recipe": "onnx_unipts.recipe"}


def __getattr__(name: str) -> Any:
    """Import the public names when they are asked for: ``--help`` should not load a runtime."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "onnx_unipts.api")), name)
