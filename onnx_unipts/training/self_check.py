"""The check before training: gradients against finite differences, in a process of its own.

Some of the runtime's gradient kernels are silently wrong, some end the process. Both are found here
in seconds, on the real graph with a small batch, before hours of training build on them.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.training.ort import GradientGraph, GradientSession

__all__ = ["Check", "check_gradients"]

TENSORS = 12
# A right gradient of a real graph is off by about 0.004 in the median, for kinks and curvature.
TOLERANCE = 0.1
MEDIAN_TOLERANCE = 0.03
TIMEOUT_SECONDS = 600


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

    Each tensor is moved along its own gradient g: the loss must change by |g| per unit. ``feeds``
    holds everything that the graph's session is fed. Raises `UnsupportedModelError` if the
    gradient's kernels end the process, fail, or do not end.
    """
    # Forked on Linux: nothing is imported or copied again.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, graph, dict(feeds)), daemon=True)
    process.start()
    sender.close()
    answer: dict[str, float] | str | None = None
    try:
        if receiver.poll(TIMEOUT_SECONDS):
            answer = receiver.recv()
    except EOFError:
        pass
    finally:
        if answer is None and process.is_alive() and process.exitcode is None:
            process.join(1)
            process.kill()
        process.join()
        receiver.close()
    if isinstance(answer, dict):
        return Check(answer)
    raise UnsupportedModelError(
        f"the gradient graph cannot be run: {answer or _cause_of_death(process.exitcode)}; "
        "use --epochs 0 to prune without training"
    )


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"a kernel ended its process by {signal.Signals(-code).name}"
    return f"its process ended with code {code}"


def _report(sender: Connection, graph: GradientGraph, feeds: dict[str, np.ndarray]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers an interrupt, for both
    try:
        sender.send(_errors(graph, feeds))
    except Exception as error:
        sender.send(str(error).strip().splitlines()[0])
    finally:
        sender.close()


def _errors(graph: GradientGraph, feeds: dict[str, np.ndarray]) -> dict[str, float]:
    session = GradientSession(graph)
    loss, gradients, _ = session.run(feeds)
    picked = np.unique(np.linspace(0, len(graph.parameters) - 1, TENSORS).astype(int))
    errors = {}
    for index in picked if graph.parameters else []:
        name = graph.parameters[index]
        gradient = gradients[name].astype(np.float64)
        slope = float(np.sqrt(np.square(gradient).sum()))
        if not np.isfinite(slope):
            errors[name] = float("inf")
        elif slope > 1e-6 * max(abs(loss), 1.0):
            errors[name] = _error_along(session, feeds, name, gradient / slope, slope, loss)
    return errors


def _error_along(
    session: GradientSession,
    feeds: dict[str, np.ndarray],
    name: str,
    direction: np.ndarray,
    slope: float,
    loss: float,
) -> float:
    """Return the best agreement over step sizes: too long meets kinks, too short rounding."""
    length = float(np.sqrt(np.square(feeds[name].astype(np.float64)).sum())) + 1e-3
    errors = []
    for change in (1e-2, 3e-3, 1e-3):
        step = min(change * max(abs(loss), 1e-2) / slope, 0.03 * length)
        ends = []
        for sign in (1, -1):
            moved = (feeds[name] + sign * step * direction).astype(feeds[name].dtype)
            ends.append(session.run({**feeds, name: moved})[0])
        errors.append(abs((ends[0] - ends[1]) / (2 * step) - slope) / slope)
    return float(min(errors))
