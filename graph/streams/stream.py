"""A linear stream, by the keys of the tensors around it."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_unipts.graph.normalization.found import EPSILON

__all__ = ["Stream", "Writer"]


@dataclass(frozen=True)
class Writer:
    """A convolution that makes values of a stream, by the keys of its tensors.

    ``filter`` is (width, ...), ``bias`` (width,) or None. ``normalization`` holds scale, bias, mean
    and variance, all (width,), of a BatchNormalization behind it, and is empty where none is.
    """

    filter: str
    bias: str | None
    normalization: tuple[str, ...] = ()
    epsilon: float = EPSILON

    @property
    def keys(self) -> list[str]:
        """The keys of all its tensors."""
        return [self.filter, *([] if self.bias is None else [self.bias]), *self.normalization]


@dataclass(frozen=True)
class Stream:
    """Values of ``width`` channels that are in one basis, since they are added to each other.

    ``readers`` are the filters (channels, width, ...) of the convolutions that they enter.
    """

    width: int
    writers: tuple[Writer, ...]
    readers: tuple[str, ...]

    @property
    def filters(self) -> list[str]:
        """The keys of the filters around it."""
        return [*(writer.filter for writer in self.writers), *self.readers]

    @property
    def normalized(self) -> bool:
        """Whether a normalisation lies behind one of the convolutions that make it."""
        return any(writer.normalization for writer in self.writers)

    @property
    def keys(self) -> list[str]:
        """The keys of all tensors that depend on its basis."""
        return [*(key for writer in self.writers for key in writer.keys), *self.readers]
