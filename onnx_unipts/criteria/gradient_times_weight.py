"""The gradient-times-weight criterion: how much the outputs change to first order."""

from __future__ import annotations

import numpy as np

from onnx_unipts.criteria.criterion import CRITERIA, Evidence, ScaledMagnitude
from onnx_unipts.patterns.masking import Scores
from onnx_unipts.student import batches_of
from onnx_unipts.targets import Target
from onnx_unipts.training.objective import Temperatures, loss_feeds
from onnx_unipts.training.ort import GradientSession, inference_session
from onnx_unipts.training.trainer import gradient_graph, variances_of

BATCH = 16
SAMPLES = 512


@CRITERIA.register("gradient-times-weight")
def gradient_times_weight(evidence: Evidence) -> Scores:
    """|w| times the root mean square of its gradient (Molchanov et al., arXiv 1906.10771).

    Without labels the dense model is at the optimum of its own distillation loss, where gradients
    vanish. So they are taken towards answers drawn from the dense model's own distribution, which
    makes their square the diagonal of the Fisher information.
    """
    student = evidence.student
    size = min(BATCH, len(evidence.data))
    graph = gradient_graph(student, size)
    session, teacher = GradientSession(graph), inference_session(student.teacher("batch"))
    rng = np.random.default_rng([evidence.seed, 5])
    names = [name for name in graph.parameters if name in student.prunable]
    squares = {name: np.zeros(student.dense[name].shape) for name in names}
    batches = list(batches_of(evidence.data, size, SAMPLES))
    for batch in batches:
        taught = dict(zip(student.values, teacher.run(student.values, batch), strict=True))
        variances = variances_of(student, taught)
        feeds = loss_feeds(student.taught, taught, Temperatures(1, 1, 1), size, variances)
        for target in student.taught:
            given = f"{target.value}/teacher"
            feeds[given] = _drawn(target, feeds[given], rng)
        _, gradients, _ = session.run({**student.dense, **batch, **feeds})
        for name in names:
            squares[name] += np.square(gradients[name], dtype=np.float64)
    if others := [name for name in student.prunable if name not in squares]:
        evidence.warn(f"no gradient reaches, magnitude decides: {', '.join(others)}")
    return ScaledMagnitude(
        {name: np.sqrt(value / len(batches)).astype(np.float32) for name, value in squares.items()}
    )


def _drawn(target: Target, expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw answers from the distribution that ``expected`` gives."""
    if target.kind == "classes":
        noise = rng.gumbel(size=expected.shape)
        best = (np.log(np.maximum(expected, 1e-30)) + noise).argmax(axis=target.axis)
        drawn = np.zeros_like(expected)
        np.put_along_axis(drawn, np.expand_dims(best, target.axis), 1, axis=target.axis)
        return drawn
    if target.kind == "probability":
        return (rng.random(expected.shape) < expected).astype(expected.dtype)
    spread = expected.std() * rng.standard_normal(expected.shape)
    return (expected + spread).astype(expected.dtype)
