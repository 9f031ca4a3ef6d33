"""What the examples share: training a graph without a framework, to have a dense model.

The gradients come from the same onnxruntime-training that compresses models, the optimizer is
numpy. It is no part of the tool: your own models come trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.cleanup import freeze_batch
from onnx_unipts.graph.differentiable import make_differentiable
from onnx_unipts.targets import Target, expose
from onnx_unipts.training.objective import Temperatures, append_loss, loss_feeds
from onnx_unipts.training.optimizer import MomentumSGD
from onnx_unipts.training.ort import GradientSession, build_gradient_graph
from onnx_unipts.training.schedule import learning_rate

__all__ = ["Network", "fit"]

# The distillation loss at temperature 1, with labels as its teacher, is the cross-entropy.
CROSS_ENTROPY = Temperatures(teacher=1.0, inner=1.0, outer=1.0)


class Network:
    """A graph under construction: one input, layers by name, their tensors as further inputs."""

    def __init__(self, name: str, entry: str, shape: list[int | str]) -> None:
        """``entry`` is the input's name, ``shape`` its shape with a dynamic first axis."""
        self._name = name
        self.entry = ir.val(entry, ir.DataType.FLOAT, shape)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._inputs = [self.entry]
        self._nodes: list[ir.Node] = []

    def add(self, operator: str, value: ir.Value, name: str = "", **attributes: object) -> ir.Value:
        """Add a node without weights and return its output."""
        return self._node(operator, [value], name or f"{operator}{len(self._nodes)}", attributes)

    def layer(
        self,
        operator: str,
        value: ir.Value,
        name: str,
        shape: tuple[int, ...],
        **attributes: object,
    ) -> ir.Value:
        """Add a node with a weight of ``shape`` and a bias, and return its output."""
        parts = {f"{name}.weight": shape, f"{name}.bias": (shape[0],)}
        self.shapes |= parts
        own = [ir.val(part, ir.DataType.FLOAT, list(size)) for part, size in parts.items()]
        self._inputs += own
        return self._node(operator, [value, *own], name, attributes)

    def _node(
        self, operator: str, values: list[ir.Value], name: str, attributes: dict[str, object]
    ) -> ir.Value:
        node = ir.node(operator, values, attributes, name=name)
        self._nodes.append(node)
        node.outputs[0].name = f"{name}/output"
        return node.outputs[0]

    def model(self, outputs: Mapping[str, tuple[ir.Value, list[int | str]]]) -> ir.Model:
        """Return the graph with these outputs: value and shape by name."""
        for name, (value, shape) in outputs.items():
            value.name, value.shape = name, ir.Shape(shape)
            value.type = ir.TensorType(ir.DataType.FLOAT)
        graph = ir.Graph(
            self._inputs,
            [value for value, _ in outputs.values()],
            nodes=self._nodes,
            opset_imports={"": 17},
            name=self._name,
        )
        return ir.Model(graph, ir_version=8, producer_name="onnx-unipts example")


def fit(
    model: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    targets: list[Target],
    entry: str,
    inputs: np.ndarray,
    taught: Callable[[np.ndarray], dict[str, np.ndarray]],
    *,
    epochs: int,
    batch: int = 32,
    rate: float = 0.05,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return tensors trained on ``inputs``: momentum SGD, a cosine after a warm-up.

    ``taught`` gives, for the indices of a batch, what each target's value should be.
    """
    student = model.clone()
    expose(student, targets)
    student = freeze_batch(student, batch)
    make_differentiable(student)
    loss = append_loss(student, targets)
    session = GradientSession(build_gradient_graph(student, list(shapes), loss))
    tensors, optimizer = _started(shapes, seed), MomentumSGD(0.9, 5e-4, pruned_decay=0.0)
    variances = {t.value: 1.0 for t in targets if t.kind == "values"}
    rng = np.random.default_rng(seed + 2)
    per_epoch = len(inputs) // batch
    for step in range(epochs * per_epoch):
        if step % per_epoch == 0:
            order = rng.permutation(len(inputs))
        picked = order[step % per_epoch * batch :][:batch]
        feeds = loss_feeds(targets, taught(picked), CROSS_ENTROPY, batch, variances)
        value, gradients, _ = session.run({**tensors, **feeds, entry: inputs[picked]})
        speed = learning_rate(rate, step, epochs * per_epoch, 0.1)
        optimizer.step(tensors, gradients, {}, speed)
        if (step + 1) % per_epoch == 0:
            print(f"epoch {(step + 1) // per_epoch} of {epochs}: loss {value:.4f}")
    return tensors


def _started(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Weights as He et al. (arXiv 1502.01852), biases zero."""
    rng = np.random.default_rng(seed + 1)
    return {
        name: (
            np.sqrt(2 / np.prod(shape[1:])) * rng.standard_normal(shape)
            if name.endswith("weight")
            else np.zeros(shape)
        ).astype(np.float32)
        for name, shape in shapes.items()
    }
