"""What an encoding of sparse tensors is, and the registry of them; one encoding per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from onnx_unipts.graph.packing.decoder import Decoder
from onnx_unipts.graph.registry import Registry

__all__ = ["ENCODINGS", "BrokenPartsError", "Encoding", "Parts", "Zeros", "is_stored", "require"]

Parts = dict[str, np.ndarray]
Zeros = Callable[[], str]


class BrokenPartsError(ValueError):
    """The stored parts of a packed tensor do not fit each other; the message says how."""


class Encoding(Protocol):
    """One way to store a flat tensor most of whose elements are zero.

    The part ``v`` holds values, in the order of the encoding; the other parts say where they go.
    Zero is what has no bit set: a negative zero is a value.
    """

    def encode(self, flat: np.ndarray) -> Parts | None:
        """Return the parts of ``flat``, shape (n,), or None where the encoding does not apply."""

    def decode(self, parts: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        """Return the flat tensor, shape (size,), of the ``parts``.

        Raises `BrokenPartsError` where they are not what `encode` makes, before any index is used.
        """

    def variants(self) -> list[frozenset[str]]:
        """Return the sets of parts, beside ``v``, that `encode` may make."""

    def build(self, decoder: Decoder, parts: frozenset[str], values: str, zeros: Zeros) -> str:
        """Add the nodes that compute the tensor and return the name of their output.

        ``values`` names the values (n,); ``zeros`` makes a tensor (size,) of zeros and names it.
        The output may have any shape.
        """


ENCODINGS: Registry[type[Encoding]] = Registry("encoding", "onnx_unipts.graph.packing")


def is_stored(flat: np.ndarray) -> np.ndarray:
    """Return the mask (bool) of the elements that are anything but zero with all bits unset."""
    return np.ascontiguousarray(flat).view(f"u{flat.dtype.itemsize}") != 0


def require(condition: bool, problem: str) -> None:
    """Raise `BrokenPartsError` unless ``condition`` holds."""
    if not condition:
        raise BrokenPartsError(problem)
