"""Operators that make random numbers: what a model with one puts out differs from run to run."""

from __future__ import annotations

import onnx_ir as ir

from onnx_unipts.graph.model import iterate_scopes
from onnx_unipts.graph.nodes import input_at

__all__ = ["RANDOM", "random_nodes"]

RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


def random_nodes(model: ir.Model) -> list[str]:
    """Return operator and name of each node of ``model`` that makes random numbers.

    A Dropout does where it is told to work as in training.
    """
    return [
        f"{node.op_type} {node.name or ''}".strip()
        for _, scope in iterate_scopes(model)
        for node in scope
        if not node.domain and (node.op_type in RANDOM or _drops(node))
    ]


def _drops(node: ir.Node) -> bool:
    training = input_at(node, 2) if node.op_type == "Dropout" else None
    if training is None:
        return False
    told = ir.convenience.get_const_tensor(training)
    return told is not None and bool(told.numpy().any())
