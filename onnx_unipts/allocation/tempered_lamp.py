"""Tempered LAMP allocation: between LAMP and uniform, with filters of one channel spared."""

from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.lamp import lamp
from onnx_unipts.allocation.problem import ALLOCATORS, Problem
from onnx_unipts.patterns import Layout

# Measured on ResNet-20 at 0.95, after training: 0.7 beats LAMP itself (1), 0.5 and uniform (0).
POWER = 0.7
# Share of all kept weights that those of a single channel may take. MobileNetV2 at 0.5, fitted:
# divergence 0.24 with them dense, at 6 % of what is kept, and 0.27 with a fifth of them pruned.
SPARED = 0.25
# Any factor that asks for more than all.
ALL = 1e6


@ALLOCATORS.register("tempered-lamp")
def tempered_lamp(problem: Problem) -> Kept:
    """Density in proportion to that of LAMP to the power of `POWER`; small filters stay dense.

    LAMP (Lee et al., ICLR 2021, arXiv 2010.07611) leaves the largest layers too little to train
    with: where masks move, what a layer can become counts beside what it is worth now. Filters of
    a single channel, of depthwise layers and the first of grey images, have few weights to make up
    for one that goes; they stay where all of them are no more than `SPARED` of what is kept.
    """
    kept, counts = lamp(problem), problem.counts
    wanted = {n: counts[n] * (k / counts[n]) ** POWER for n, k in kept.items()}
    wanted |= {n: ALL * counts[n] for n in spared(problem)}
    return problem.distribute(wanted)


def spared(problem: Problem) -> set[str]:
    """Return the layers whose filters see one channel each, if these are few enough to stay."""
    found = {name for name in problem.counts if _has_one_channel(problem, name)}
    few = sum(problem.counts[name] for name in found) <= SPARED * problem.total
    return found if few else set()


def _has_one_channel(problem: Problem, name: str) -> bool:
    """Tell whether ``name`` is a convolution of filters that see one channel each."""
    shape = problem.weights[name].shape
    layout = problem.masking.layouts.get(name, Layout())
    channels = 1 if layout.in_axis is None else layout.in_axis
    return len(shape) > 2 and shape[channels] // layout.in_groups == 1
