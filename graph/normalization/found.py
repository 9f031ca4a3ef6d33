"""A BatchNormalization of a working model, and finding those that it has."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["EPSILON", "Normalization", "find"]

EPSILON = 1e-5


@dataclass(frozen=True)
class Normalization:
    """One BatchNormalization of a working model; its four tensors have shape (channels,), float32.

    ``weight`` and ``conv_bias`` are set where it was inserted: the names of the filter in front of
    it, which `fold` scales, and of that convolution's bias, if it has one. ``output`` is the name
    of the normalised value, ``channels`` the length of the four tensors.
    """

    output: str
    scale: str
    bias: str
    mean: str
    variance: str
    epsilon: float
    channels: int
    weight: str | None = None
    conv_bias: str | None = None

    @property
    def trained(self) -> tuple[str, str]:
        """The names of the tensors that gradients train."""
        return self.scale, self.bias

    @property
    def statistics(self) -> tuple[str, str]:
        """The names of the running mean and variance."""
        return self.mean, self.variance

    @property
    def observed(self) -> tuple[str, str]:
        """The names under which mean and variance are measured: tensors may be shared."""
        return f"{self.output}/mean/observed", f"{self.output}/variance/observed"


def find(model: ir.Model) -> list[Normalization]:
    """Return the BatchNormalizations of ``model`` whose four tensors are all graph inputs."""
    inputs = set(model.graph.inputs)
    found = []
    for node in model.graph:
        if node.op_type != "BatchNormalization" or node.domain:
            continue
        tensors = node.inputs[1:5]
        if len(tensors) != 4 or any(t is None or t not in inputs for t in tensors):
            continue
        shape = tensors[0].shape  # type: ignore[union-attr]
        scale, bias, mean, variance = (str(t.name) for t in tensors if t is not None)
        found.append(
            Normalization(
                str(node.outputs[0].name),
                scale,
                bias,
                mean,
                variance,
                epsilon=node.attributes.get_float("epsilon", EPSILON),
                channels=int(shape[0]),  # type: ignore[index,arg-type]
            )
        )
    return found
