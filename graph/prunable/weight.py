"""What is known of a weight that can be pruned."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_unipts.graph.model import scoped

__all__ = ["PrunableWeight"]


@dataclass(frozen=True)
class PrunableWeight:
    """One stored tensor that feeds the weight operand of some node.

    Attributes:
        name: the tensor's own name: of the initializer, or of the output of its Constant node.
        scope: the path of the subgraph or function that holds it, empty for the main graph.
        operator: what its first use is: Conv, ConvTranspose, Gemm, MatMul, LSTM, ...
        nodes: every node that uses it as a weight, ``scope:name`` within a subgraph or function; a
            node without a name goes by its first output.
        shape: as stored; empty where the tensor is computed by the graph.
        dtype: as stored, by its ONNX name (FLOAT, FLOAT16, ...).
        count: the number of elements.
        out_axis: the axis of ``shape`` that runs over output channels; None where none does.
        in_axis: the axis of ``shape`` that runs over input channels (of one group).
        pruned: whether the tensor is to be pruned.
        trainable: whether gradients reach it; None until training has found out.
        reason: why it is not pruned; empty where it is.
        chain: the operators between the stored tensor and the weight operand.
        in_groups: how many groups of channels share ``in_axis``, each summed by itself: those of a
            grouped ConvTranspose, else 1.
        zero: what is stored for zero: the zero point of a quantised tensor, 0 for all others.
        kind: the kind of its use where that is pruned only by choice: one of `KINDS`, else empty.
        computed: whether the graph computes it from constants, so that nothing is stored.
    """

    name: str
    scope: str
    operator: str
    nodes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    count: int
    out_axis: int | None
    in_axis: int | None
    pruned: bool
    trainable: bool | None
    reason: str
    chain: tuple[str, ...]
    in_groups: int = 1
    zero: int = 0
    kind: str = ""
    computed: bool = False

    @property
    def key(self) -> str:
        """``name``, or ``scope:name`` in a subgraph or function; unique within the model."""
        return scoped(self.scope, self.name)
