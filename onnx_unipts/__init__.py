"""Make a trained ONNX model sparse, with a handful of inputs and no training framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_unipts.api import Result, compress, evaluate, inspect, search
    from onnx_unipts.benchmarking import benchmark
    from onnx_unipts.calibration import Preprocessing
    from onnx_unipts.callbacks import Epoch, Generation
    from onnx_unipts.conversion import pack, unpack
    from onnx_unipts.finetuning import finetune
    from onnx_unipts.recipe import Recipe, load_recipe
    from onnx_unipts.sweeping import Sweep, sweep
    from onnx_unipts.trials import compress_to

__all__ = [
    "Epoch",
    "Generation",
    "Preprocessing",
    "Recipe",
    "Result",
    "Sweep",
    "benchmark",
    "compress",
    "compress_to",
    "evaluate",
    "finetune",
    "inspect",
    "load_recipe",
    "pack",
    "search",
    "sweep",
    "unpack",
]

_HOMES = {
    "Epoch": "onnx_unipts.callbacks",
    "Generation": "onnx_unipts.callbacks",
    "Preprocessing": "onnx_unipts.calibration",
    "Recipe": "onnx_unipts.recipe",
    "Sweep": "onnx_unipts.sweeping",
    "benchmark": "onnx_unipts.benchmarking",
    "compress_to": "onnx_unipts.trials",
    "finetune": "onnx_unipts.finetuning",
    "load_recipe": "onnx_unipts.recipe",
    "pack": "onnx_unipts.conversion",
    "sweep": "onnx_unipts.sweeping",
    "unpack": "onnx_unipts.conversion",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are asked for: ``--help`` should not load a runtime."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "onnx_unipts.api")), name)
