"""What is pruned unasked, because a model has nothing else to prune."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_unipts.graph.prunable.weight import PrunableWeight

__all__ = ["with_last_resort"]

# Kinds of weights that are pruned unasked where a model has no others, the first that it has.
LAST_RESORTS = ("recurrent", "optional", "quantised")


def with_last_resort(
    find: Callable[[tuple[str, ...]], list[PrunableWeight]], include: Sequence[str] = ()
) -> tuple[list[PrunableWeight], str]:
    """Return the weights that ``find`` finds, and the kind that was added so that some are pruned.

    ``find`` takes the kinds of weights to include, at first those of ``include``. The kind is
    empty where none was needed, or where none helps: the weights are then those of the last one,
    which say why.
    """
    weights = find(tuple(include))
    if any(weight.pruned for weight in weights):
        return weights, ""
    for kind in LAST_RESORTS:
        weights = find((*include, kind))
        if any(weight.pruned for weight in weights):
            return weights, kind
    return weights, ""
