"""The allocator of the default recipe, chosen by what becomes of the allocation."""

__all__ = ["AUTO", "allocator_for"]

AUTO = "auto"


def allocator_for(method: str, as_it_is: bool) -> str:
    """Return the allocator that ``method`` stands for, itself unless it is `AUTO`.

    What a search finds is best where weights stay ``as_it_is``: not trained, or with masks that do
    not move. Where they train on, a search that scores untrained candidates misleads: it starves
    the layers that can learn the most. Measured on ResNet-20 at 0.95: 1 to 2 points of accuracy.
    """
    if method != AUTO:
        return method
    return "evolutionary" if as_it_is else "tempered-lamp"
