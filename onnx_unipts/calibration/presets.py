"""Known ways from pixels to values, by name: what the training code of many models does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.hint import hint

__all__ = ["PRESETS", "Preset", "find_preset"]


@dataclass(frozen=True)
class Preset:
    """Value fed = (pixel * scale - mean) / std; one number stands for every channel."""

    description: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1 / 255


# Ranges only: what size images are brought to is the model's matter, or --resize's and --crop's.
PRESETS: Mapping[str, Preset] = {
    "imagenet": Preset(
        "models of torchvision, timm and most of PyTorch",
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    "imagenet-tf": Preset("MobileNet, Inception and others of TensorFlow", (0.5,), (0.5,)),
    "cifar10": Preset(
        "the statistics of CIFAR-10", (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    ),
    "zero-one": Preset("pixels divided by 255"),
    "minus-one-one": Preset("pixels brought to -1..1", (0.5,), (0.5,)),
    "zero-255": Preset("pixels as they are", scale=1.0),
}


def find_preset(name: str) -> Preset:
    """Return the preset called ``name``; `UsageError` lists the known and names the nearest."""
    if name in PRESETS:
        return PRESETS[name]
    raise UsageError(
        f"unknown preprocessing preset {name!r}{hint(name, PRESETS)}; known: {', '.join(PRESETS)}"
    )
