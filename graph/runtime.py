"""onnxruntime without torch: ``from onnx_unipts.graph.runtime import onnxruntime``.

The training build looks for ``onnxruntime.training.ortmodule`` when it is imported
(``onnxruntime/capi/onnxruntime_validation.py`` of 1.19.2), which imports torch where torch is
installed, and fails where that torch does not suit it. Nothing here needs either.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

__all__ = ["onnxruntime"]

TRAINING = "onnxruntime.training"


@contextlib.contextmanager
def _hidden_training_package() -> Iterator[None]:
    """Let an empty package stand for ``onnxruntime.training`` unless it is imported already."""
    if "onnxruntime" in sys.modules:
        yield
        return
    empty = ModuleType(TRAINING)
    empty.__path__ = []
    sys.modules[TRAINING] = empty
    try:
        yield
    finally:
        del sys.modules[TRAINING]


with _hidden_training_package():
    import onnxruntime
