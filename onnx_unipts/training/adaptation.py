"""Adapting the teacher: the dense model's normalisations settle on the calibration data.

Data seldom looks quite like what a model was trained on (other cameras, other compression). A
BatchNormalization that stands by itself adapts by the statistics of the batch; where an exporter
folded it, what it would adapt to is lost. Minimising the entropy of the dense model's own
predictions brings it back, without labels (Tent, Wang et al., ICLR 2021, arXiv 2006.10726).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx_ir as ir

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.progress import Progress
from onnx_unipts.recipe import Training
from onnx_unipts.student import Student, batches_of, recalibrate
from onnx_unipts.targets import Target
from onnx_unipts.training.optimizer import MomentumSGD
from onnx_unipts.training.ort import (
    GradientGraph,
    GradientSession,
    build_gradient_graph,
    inference_session,
)
from onnx_unipts.training.trainer import differentiable_student

__all__ = ["adapt_normalizations", "agreement_of", "commonest_share"]

ENTROPY = "adaptation/entropy"
# Statistics of more samples than these change nothing that can be measured.
SAMPLES = 2048
# Samples that show whether the adapted model still answers alike, so many in a run.
COMPARED_SAMPLES = 512
COMPARED_BATCH = 64


def adapt_normalizations(
    student: Student,
    data: CalibrationData,
    settings: Training,
    seed: int,
    replicas: int,
    progress: Progress,
) -> dict[str, np.ndarray] | None:
    """Return the dense tensors with scales and biases of the normalisations adapted to ``data``.

    ``settings.adaptation`` steps of momentum SGD on the mean entropy of the first target that holds
    class scores, everything else fixed. None without such a target, or where no gradient reaches.
    """
    tensors = {name: value.copy() for name, value in student.dense.items()}
    target = next((t for t in student.targets if t.kind == "classes"), None)
    if target is None or not student.normalizations or settings.adaptation == 0:
        return None
    size = settings.batch_size // replicas
    graph = _entropy_graph(student, target, size)
    if graph is None:
        return None
    sessions = [GradientSession(graph) for _ in range(replicas)]
    optimizer = MomentumSGD(settings.momentum, 0.0, 0.0)
    rng = np.random.default_rng([seed, 3])
    with (
        progress.phase("adaptation", settings.adaptation) as phase,
        ThreadPoolExecutor(replicas) as pool,
    ):
        for _ in range(settings.adaptation):
            indices = rng.permutation(len(data))[: settings.batch_size]
            batch = data.augmented(indices, rng) if settings.augment else data.batch(indices)
            feeds = [
                {**tensors, **{n: v[k * size : (k + 1) * size] for n, v in batch.items()}}
                for k in range(replicas)
            ]
            results = list(
                pool.map(lambda run: run[0].run(run[1]), zip(sessions, feeds, strict=True))
            )
            gradients = {
                name: sum(result[1][name] for result in results) / np.float32(replicas)
                for name in results[0][1]
            }
            optimizer.step(tensors, gradients, {}, settings.adaptation_rate)
            phase.advance(1, entropy=sum(result[0] for result in results) / replicas)
    statistics = recalibrate(
        student, tensors, data, settings.batch_size, SAMPLES, replicas, settings.augment
    )
    return tensors | statistics


def agreement_of(
    student: Student, tensors: Mapping[str, np.ndarray], data: CalibrationData
) -> float:
    """Return the share of samples to which ``tensors`` give the dense tensors' top class."""
    target = next((t for t in student.targets if t.kind == "classes"), None)
    if target is None:
        return 1.0
    ours, theirs = (_answers(student, t, target, data) for t in (student.dense, tensors))
    return float((ours == theirs).mean())


def commonest_share(student: Student, data: CalibrationData) -> float:
    """Return the share of the dense model's answers that are its commonest one.

    Where nearly all are, minimising their entropy makes it answer that whatever it sees.
    """
    target = next((t for t in student.targets if t.kind == "classes"), None)
    if target is None:
        return 0.0
    answers = _answers(student, student.dense, target, data)
    return float(np.unique(answers, return_counts=True)[1].max() / answers.size)


def _answers(
    student: Student, tensors: Mapping[str, np.ndarray], target: Target, data: CalibrationData
) -> np.ndarray:
    """Return the top classes of some samples, in one vector."""
    session = inference_session(student.with_tensors(tensors))
    batches = batches_of(data, COMPARED_BATCH, COMPARED_SAMPLES)
    scores = (session.run([target.value], batch)[0] for batch in batches)
    return np.concatenate([np.ravel(each.argmax(axis=target.axis)) for each in scores])


def _entropy_graph(student: Student, target: Target, batch_size: int) -> GradientGraph | None:
    """Return the gradient graph of the mean entropy, None where no gradient gets through."""
    model = differentiable_student(student, [target], batch_size)
    scores = model.graph.outputs[0]
    assert scores.shape is not None
    classes = int(scores.shape.numpy()[target.axis])
    probability = ir.node("Softmax", [scores], {"axis": target.axis})
    logarithm = ir.node("LogSoftmax", [scores], {"axis": target.axis})
    product = ir.node("Mul", [probability.outputs[0], logarithm.outputs[0]])
    mean = ir.node("ReduceMean", [product.outputs[0]], {"keepdims": 0})
    factor = ir.Value(name="adaptation/classes", const_value=ir.tensor(np.float32(-classes)))
    model.graph.register_initializer(factor)
    loss = ir.node(
        "Mul", [mean.outputs[0], factor], outputs=[ir.val(ENTROPY, ir.DataType.FLOAT, [])]
    )
    model.graph.extend([probability, logarithm, product, mean, loss])
    model.graph.outputs.clear()
    model.graph.outputs.append(loss.outputs[0])
    trained = [name for norm in student.normalizations for name in norm.trained]
    try:
        return build_gradient_graph(model, trained, ENTROPY, student.normalizations)
    except UnsupportedModelError:
        return None
