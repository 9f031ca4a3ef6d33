"""Inserting a BatchNormalization behind every convolution that lost its own."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from onnx_unipts.graph.names import Names, value_names
from onnx_unipts.graph.nodes import input_at
from onnx_unipts.graph.normalization.found import EPSILON, Normalization

__all__ = ["insert"]

WEIGHT_OPERATORS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"}


def insert(
    model: ir.Model, weights: Collection[str], unbiased: Collection[str] | None = None
) -> list[Normalization]:
    """Insert a BatchNormalization behind every convolution that lost its own; in place.

    Eligible is a Conv whose filter is one of ``weights`` and whose bias, if any, is a graph input
    as well, both used by this node alone, whose output is none of the model's and does not already
    enter a BatchNormalization, and behind which another weight follows: the last layer's scale is
    the model's answer and stays. `fold` gives every such Conv a bias; without one before, only the
    filters in ``unbiased`` are eligible, all if None. The four tensors become graph inputs.
    """
    names = Names(value_names(model.graph))
    leads_to_weight = _leads_to_weight(model.graph)
    return [
        _normalised(model.graph, node, names)
        for node in list(model.graph)
        if _eligible(node, weights, unbiased) and leads_to_weight[node]
    ]


def _normalised(graph: ir.Graph, node: ir.Node, names: Names) -> Normalization:
    """Insert the normalisation of what ``node`` puts out."""
    old = node.outputs[0]
    channels = int(node.inputs[1].shape[0])  # type: ignore[union-attr,index,arg-type]
    tensors = [
        ir.val(names.fresh(f"{old.name}/{part}"), ir.DataType.FLOAT, [channels])
        for part in ("scale", "bias", "mean", "variance")
    ]
    graph.inputs.extend(tensors)
    output = ir.Value(name=names.fresh(f"{old.name}/normalised"), type=old.type, shape=old.shape)
    normalise = ir.node(
        "BatchNormalization", [old, *tensors], attributes={"epsilon": EPSILON}, outputs=[output]
    )
    ir.convenience.replace_all_uses_with(old, output)
    normalise.replace_input_with(0, old)
    graph.insert_after(node, normalise)
    bias = input_at(node, 2)
    scale_name, bias_name, mean_name, variance_name = (str(t.name) for t in tensors)
    return Normalization(
        str(output.name),
        scale_name,
        bias_name,
        mean_name,
        variance_name,
        epsilon=EPSILON,
        channels=channels,
        weight=node.inputs[1].name,  # type: ignore[union-attr]
        conv_bias=None if bias is None else bias.name,
    )


def _eligible(node: ir.Node, weights: Collection[str], unbiased: Collection[str] | None) -> bool:
    if node.op_type != "Conv" or node.domain:
        return False
    filters, bias = node.inputs[1], input_at(node, 2)
    if filters is None or filters.name not in weights or len(filters.uses()) != 1:
        return False
    if bias is None and unbiased is not None and filters.name not in unbiased:
        return False
    # The scale of the filter goes into the bias: a computed one, or one of others, cannot take it.
    if bias is not None and not (bias.is_graph_input() and len(bias.uses()) == 1):
        return False
    if filters.shape is None or not isinstance(filters.shape[0], int):
        return False
    output = node.outputs[0]
    users = output.uses()
    if not users or output.is_graph_output():
        return False
    return not any(user.node.op_type == "BatchNormalization" for user in users)


def _leads_to_weight(graph: ir.Graph) -> dict[ir.Node, bool]:
    """Tell for each node whether an operator with weights takes its output, however far away."""
    answer: dict[ir.Node, bool] = {}
    for node in reversed(list(graph)):
        users = {use.node for value in node.outputs for use in value.uses()}
        answer[node] = any(
            user.op_type in WEIGHT_OPERATORS or answer.get(user, True) for user in users
        )
    return answer
