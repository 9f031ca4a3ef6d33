"""The check before training: gradients against finite differences, in a process of its own.

Some of the runtime's gradient kernels are silently wrong, some end the process. Both are found here
in seconds, on the real graph with a small batch, before hours of training build on them.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from onnx_unipts.graph.differentiable import without_rounding_errors
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.isolation import begin_child, cause_of_death
from onnx_unipts.graph.reason import reason_of
from onnx_unipts.training.ort import GradientGraph, GradientSession

__all__ = ["Check", "check_gradients"]

TENSORS = 12
# A right gradient of a real graph is off by about 0.004 in the median, for kinks and curvature.
TOLERANCE = 0.1
MEDIAN_TOLERANCE = 0.03
# Steps relative to the tensor's length, the likely ones first; the short ones are for graphs with
# very many kinks.
LIKELY = 3e-3
STEPS = sorted(np.geomspace(1e-1, 1e-6, 11), key=lambda step: abs(math.log(step / LIKELY)))
SHORT = 9e-4
# The float32 roundings that a loss is off by; logarithms of probabilities round as 1 does.
ROUNDINGS = 8
EPSILON = float(np.finfo(np.float32).eps)
# An error relative to the gradient that is none.
EXACT = 0.01
# After so many seconds no further tensor is looked at, and the check is given up.
BUDGET_SECONDS = 120
TIMEOUT_SECONDS = 600
LAST_BREATH_SECONDS = 5


@dataclass(frozen=True)
class Check:
    """What the check found: the relative error of the gradient of each tensor it looked at."""

    errors: dict[str, float]

    @property
    def median(self) -> float:
        """The median of the errors."""
        return float(np.median(list(self.errors.values()))) if self.errors else 0.0

    @property
    def wrong(self) -> list[str]:
        """The tensors whose gradient is too far off for rounding."""
        return [name for name, error in self.errors.items() if not error <= TOLERANCE]

    @property
    def passed(self) -> bool:
        """Whether the gradients as a whole are right."""
        return self.median <= MEDIAN_TOLERANCE and len(self.wrong) * 4 <= len(self.errors)


def check_gradients(graph: GradientGraph, feeds: Mapping[str, np.ndarray]) -> Check:
    """Compare the gradients of a few tensors of ``graph`` with central finite differences.

    Each tensor is moved along its own gradient g and a random direction u, which a gradient that is
    wrongly zero does not escape: for d = g/|g| + u the loss must change by g*d per unit. Partial
    gradients are not looked at, as they are known to differ, and quantised values are not rounded.
    ``feeds`` holds everything that the graph's session is fed. Raises `UnsupportedModelError` if
    the gradient's kernels end the process, fail, or do not end.
    """
    # Forked on Linux: nothing is imported or copied again.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    asked = (os.getpid(), receiver, sender, graph, dict(feeds))
    process = context.Process(target=_report, args=asked, daemon=True)
    process.start()
    sender.close()
    answer: dict[str, float] | str = f"it did not end within {TIMEOUT_SECONDS:g} seconds"
    try:
        if receiver.poll(TIMEOUT_SECONDS):
            answer = receiver.recv()
    except EOFError:
        process.join(LAST_BREATH_SECONDS)
        answer = cause_of_death(process.exitcode)
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(answer, dict):
        return Check(answer)
    raise UnsupportedModelError(
        f"the gradient graph cannot be run: {answer}; use --epochs 0 to prune without training"
    )


def _report(
    parent: int,
    receiver: Connection,
    sender: Connection,
    graph: GradientGraph,
    feeds: dict[str, np.ndarray],
) -> None:
    begin_child(parent, receiver)
    try:
        sender.send(_errors(graph, feeds))
    except Exception as error:
        sender.send(reason_of(error))
    finally:
        sender.close()


def _errors(graph: GradientGraph, feeds: dict[str, np.ndarray]) -> dict[str, float]:
    graph = replace(graph, model=without_rounding_errors(graph.model))
    session = GradientSession(graph)
    _, gradients, _ = session.run(feeds)
    whole = [name for name in graph.parameters if name not in graph.partial]
    picked = np.unique(np.linspace(0, len(whole) - 1, TENSORS).astype(int))
    names = [whole[index] for index in picked] if whole else []
    rng = np.random.default_rng(0)
    deadline = time.monotonic() + BUDGET_SECONDS
    errors: dict[str, float] = {}
    for name in rng.permutation(names):
        if time.monotonic() < deadline:
            errors[str(name)] = _error(session, feeds, name, gradients[name], rng)
    return errors


def _error(
    session: GradientSession,
    feeds: Mapping[str, np.ndarray],
    name: str,
    gradient: np.ndarray,
    rng: np.random.Generator,
) -> float:
    """Return by how much ``gradient`` is off for certain, relative to its length.

    Long steps meet kinks and curvature, short ones rounding: what counts is the best agreement.
    At long steps a difference within rounding is none, for a loss that is nearly flat; at short
    ones, where anything would be within it, the difference counts in full.
    """
    tensor, gradient = feeds[name], gradient.astype(np.float64)
    slope = float(np.linalg.norm(gradient))
    direction = rng.standard_normal(gradient.shape)
    direction /= np.linalg.norm(direction)
    direction += gradient / slope if slope > 0 else 0.0
    length = float(np.linalg.norm(tensor.astype(np.float64))) or 1.0
    error = float("inf")
    shortest = 0.0
    for change in STEPS if np.isfinite(slope) else ():
        if change < shortest:
            continue
        step = change * length
        ends = [(tensor + sign * step * direction).astype(tensor.dtype) for sign in (1, -1)]
        moved = (ends[0].astype(np.float64) - ends[1]) / (2 * step)
        losses = [session.loss({**feeds, name: end}) for end in ends]
        rounding = ROUNDINGS * EPSILON * max(1.0, *map(abs, losses)) / (2 * step)
        if change < SHORT and rounding > slope:
            shortest = change
            continue
        excess = abs((losses[0] - losses[1]) / (2 * step) - (gradient * moved).sum())
        if change >= SHORT:
            excess = max(excess - rounding, 0.0)
        if slope > 0 or excess == 0:
            error = min(error, float(excess / slope) if excess else 0.0)
        if error <= EXACT:
            break
    return error
