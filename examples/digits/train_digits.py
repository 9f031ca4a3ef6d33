"""Train the example: a small CNN on scikit-learn's handwritten digits, without a framework.

The graph is built with onnx-ir, its gradients come from the same onnxruntime-training that
compresses models, the optimizer is numpy. Writes, into the directory of this script or the one
given as its argument, ``digits.onnx``, ``calibration.npz`` (the training images, unlabelled) and
``test.npz`` (held-out images with ``labels``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
from sklearn.datasets import load_digits

from onnx_unipts.graph.cleanup import freeze_batch
from onnx_unipts.graph.differentiable import make_differentiable
from onnx_unipts.graph.model import save_model
from onnx_unipts.graph.parameters import bind
from onnx_unipts.targets import Target
from onnx_unipts.training.objective import Temperatures, append_loss, loss_feeds
from onnx_unipts.training.optimizer import MomentumSGD
from onnx_unipts.training.ort import GradientSession, build_gradient_graph, inference_session
from onnx_unipts.training.schedule import learning_rate

SEED = 0
TEST_IMAGES = 500
EPOCHS = 12
BATCH = 32
LEARNING_RATE = 0.05
WARMUP = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

SHAPES = {
    "conv1.weight": (16, 1, 3, 3),
    "conv1.bias": (16,),
    "conv2.weight": (32, 16, 3, 3),
    "conv2.bias": (32,),
    "conv3.weight": (64, 32, 3, 3),
    "conv3.bias": (64,),
    "classifier.weight": (10, 1024),
    "classifier.bias": (10,),
}
# Labels taught as probabilities: the distillation loss at temperature 1 is the cross-entropy.
SCORES = Target("logits", "logits", "classes", axis=1)
CROSS_ENTROPY = Temperatures(teacher=1.0, inner=1.0, outer=1.0)
CERTAIN = 30.0


def main(directory: Path) -> None:
    """Train, print the test accuracy, and write model and data to ``directory``."""
    images, labels, test_images, test_labels = load_images()
    tensors = train(images, labels)
    model = bind(build_model(), tensors)
    directory.mkdir(parents=True, exist_ok=True)
    save_model(model, directory / "digits.onnx")
    np.savez_compressed(directory / "calibration.npz", image=images)
    np.savez_compressed(directory / "test.npz", image=test_images, labels=test_labels)
    session = inference_session(str(directory / "digits.onnx"))
    (scores,) = session.run(["logits"], {"image": test_images})
    accuracy = (scores.argmax(axis=1) == test_labels).mean()
    print(f"accuracy on {len(test_labels)} test images: {accuracy:.1%}")


def load_images() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return training images, their labels, test images and theirs.

    Images are float32 of shape (N, 1, 8, 8), 0 to 1, labels int64 of shape (N,).
    """
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    images = (digits.images[order, None] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    return images[TEST_IMAGES:], labels[TEST_IMAGES:], images[:TEST_IMAGES], labels[:TEST_IMAGES]


def build_model() -> ir.Model:
    """Return the network, its tensors as inputs behind ``image``."""
    image = ir.val("image", ir.DataType.FLOAT, ["N", 1, 8, 8])
    inputs = {name: ir.val(name, ir.DataType.FLOAT, shape) for name, shape in SHAPES.items()}
    nodes: list[ir.Node] = []

    def add(operator: str, value: ir.Value, layer: str = "", **attributes: object) -> ir.Value:
        own = [inputs[f"{layer}.{part}"] for part in ("weight", "bias")] if layer else []
        name = layer or f"{operator.lower()}{len(nodes)}"
        nodes.append(ir.node(operator, [value, *own], attributes, name=name))
        nodes[-1].outputs[0].name = f"{name}/output"
        return nodes[-1].outputs[0]

    value = image
    for layer in ("conv1", "conv2"):
        value = add("Relu", add("Conv", value, layer, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    value = add("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = add("Relu", add("Conv", value, "conv3", kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    logits = add("Gemm", add("Flatten", value), "classifier", transB=1)
    logits.name, logits.type = "logits", ir.TensorType(ir.DataType.FLOAT)
    logits.shape = ir.Shape(["N", 10])
    graph = ir.Graph(
        [image, *inputs.values()], [logits], nodes=nodes, opset_imports={"": 17}, name="digits"
    )
    return ir.Model(graph, ir_version=8, producer_name="onnx-unipts example")


def train(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return trained tensors by name: cross-entropy, momentum SGD, a cosine after a warm-up."""
    model = freeze_batch(build_model(), BATCH)
    make_differentiable(model)
    loss = append_loss(model, [SCORES])
    session = GradientSession(build_gradient_graph(model, list(SHAPES), loss))
    tensors = dict(initial_tensors())
    optimizer = MomentumSGD(MOMENTUM, WEIGHT_DECAY, pruned_decay=0.0)
    steps = EPOCHS * (len(images) // BATCH)
    for step, picked in enumerate(batches(len(images))):
        taught = {"logits": CERTAIN * np.eye(10, dtype=np.float32)[labels[picked]]}
        feeds = loss_feeds([SCORES], taught, CROSS_ENTROPY, BATCH, {})
        value, gradients, _ = session.run({**tensors, **feeds, "image": images[picked]})
        rate = learning_rate(LEARNING_RATE, step, steps, WARMUP)
        optimizer.step(tensors, gradients, {}, rate)
        if (step + 1) % (steps // EPOCHS) == 0:
            print(f"epoch {(step + 1) * EPOCHS // steps} of {EPOCHS}: loss {value:.3f}")
    return tensors


def initial_tensors() -> Iterator[tuple[str, np.ndarray]]:
    """Yield each tensor's name and start: weights as He et al. (arXiv 1502.01852), biases zero."""
    rng = np.random.default_rng(SEED + 1)
    for name, shape in SHAPES.items():
        spread = np.sqrt(2 / np.prod(shape[1:])) if name.endswith("weight") else 0.0
        yield name, (spread * rng.standard_normal(shape)).astype(np.float32)


def batches(count: int) -> Iterator[np.ndarray]:
    """Yield the indices of every batch of every epoch, whole batches alone."""
    rng = np.random.default_rng(SEED + 2)
    for _ in range(EPOCHS):
        order = rng.permutation(count)
        yield from np.split(order[: count // BATCH * BATCH], count // BATCH)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
