"""Recovery: which tensors a training step changes, and how masks follow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.graph.registry import Registry
from onnx_unipts.student import Student

__all__ = ["RECOVERIES", "Recovery"]

Tensors = Mapping[str, np.ndarray]


class Recovery:
    """One way to recover accuracy by training; this base is dynamic sparse training.

    Every trained tensor trains, and masks are made anew from the weights at every step. Others
    override what differs. A recovery may keep state of its own among the trained tensors, under
    names that begin with a weight's name and a slash: it is saved and resumed with them.

    Attributes:
        allocates: whether it decides by single weights how many of them each layer keeps; the
            allocation is then no more than where it starts.
    """

    allocates: bool = False

    def __init__(self, student: Student, kept: Mapping[str, int]) -> None:
        """``kept`` is the number of weights that each prunable tensor keeps in the end."""
        self.student = student
        self.masking = student.masking
        self.kept = {name: kept[name] for name in student.prunable}

    @classmethod
    def trained(cls, student: Student) -> tuple[str, ...]:
        """Return the tensors that the training needs gradients of."""
        return student.trained

    def begin(self, tensors: dict[str, np.ndarray]) -> None:
        """Add own state to ``tensors``, in place, unless it is there."""

    def masks(self, tensors: Tensors, share: float = 1.0) -> dict[str, np.ndarray]:
        """Return the masks (bool) at ``share`` of the final sparsity."""
        return {
            name: self.masking.mask(name, tensors[name], kept_at(kept, tensors[name].size, share))
            for name, kept in self.kept.items()
        }

    def updates(
        self, tensors: Tensors, gradients: Tensors, masks: Tensors
    ) -> Mapping[str, np.ndarray]:
        """Return the gradients to apply, by tensor.

        ``gradients`` are those by the masked weights, pruned ones included: passed on, they are the
        straight-through gradients.
        """
        return gradients

    def settle(self, tensors: Tensors) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Return the trained tensors, pruned and without own state, and what each keeps."""
        masks = self.masks(tensors)
        settled = {
            name: tensor * masks[name] if name in masks else tensor
            for name, tensor in tensors.items()
            if name in self.student.tensors
        }
        return settled, self.kept


RECOVERIES: Registry[type[Recovery]] = Registry("recovery", "onnx_unipts.training.recoveries")


def kept_at(kept: int, count: int, share: float) -> int:
    """Return how many of ``count`` weights stay at ``share`` of the sparsity to reach."""
    return count - round((count - kept) * share)
