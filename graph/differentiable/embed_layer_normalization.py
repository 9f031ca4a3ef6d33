"""EmbedLayerNormalization, of onnxruntime's optimiser, has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["embed_layer_normalization"]


@RULES.register("com.microsoft.EmbedLayerNormalization")
def embed_layer_normalization(node: ir.Node, op: Builder) -> Result:
    """Gathers, Adds, LayerNormalization."""
    ids, segments, words, positions, segment_table, scale, shift, mask, where = op.inputs(9)
    if op.used(1) and mask is None:
        return "it counts a mask that is not given"
    where = list(range(op.shape(ids)[1])) if where is None else where
    total = op.Add(op.Gather(words, ids, axis=0), op.Gather(positions, where, axis=0))
    if segments is not None:
        total = op.Add(total, op.Gather(segment_table, segments, axis=0))
    epsilon = node.attributes.get_float("epsilon", 1e-12)
    y = op.LayerNormalization(total, scale, shift, axis=-1, epsilon=epsilon)
    count = op.reduce("ReduceSum", mask, [1], keepdims=0) if op.used(1) else None
    return [y, count, total if op.used(2) else None][: len(node.outputs)]
