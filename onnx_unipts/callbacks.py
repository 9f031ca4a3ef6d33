"""What a program may be told while a run goes on: every generation and every epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Callbacks", "Epoch", "Generation"]


@dataclass(frozen=True)
class Generation:
    """A finished generation of the search.

    ``number`` counts from 0 up to ``total`` - 1 at most, as an allocator may spare layers;
    ``best_fitness`` is that of the best allocation so far (larger is better, 0 is no divergence),
    ``evaluations`` how many allocations were scored.
    """

    number: int
    total: int
    best_fitness: float
    evaluations: int


@dataclass(frozen=True)
class Epoch:
    """A finished epoch of training, already on disk: ``number`` counts from 1 to ``total``.

    ``losses`` are those of its steps; ``accuracy`` and ``agreement`` what the sparse model would
    have if training ended here, None where they do not apply or were not measured.
    """

    number: int
    total: int
    losses: list[float]
    accuracy: float | None = None
    agreement: float | None = None

    @property
    def loss(self) -> float:
        """The mean loss."""
        return sum(self.losses) / max(1, len(self.losses))


@dataclass(frozen=True)
class Callbacks:
    """Functions to call, in the thread of the run. What they raise ends it; it can be resumed."""

    on_generation: Callable[[Generation], object] | None = None
    on_epoch: Callable[[Epoch], object] | None = None

    def generation(self, generation: Generation) -> None:
        """Tell of a generation."""
        if self.on_generation is not None:
            self.on_generation(generation)

    def epoch(self, epoch: Epoch) -> None:
        """Tell of an epoch."""
        if self.on_epoch is not None:
            self.on_epoch(epoch)
