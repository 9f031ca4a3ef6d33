"""The operators with weights: which input is one, and which of its axes are channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from onnx_unipts.graph.nodes import integers

__all__ = ["KINDS", "OPERANDS", "Operand", "in_groups"]

# Kinds of weights that are pruned by choice.
KINDS = ("optional", "quantised", "recurrent")

_Axes = Callable[[ir.Node, int], tuple[int | None, int | None]]


@dataclass(frozen=True)
class Operand:
    """An input of an operator that can be a weight.

    Attributes:
        index: the input.
        data: the input that it is multiplied with.
        axes: gives its output and its input axis, from the node and the rank.
        kind: one of `KINDS`; empty where it is pruned without being asked for.
        zero: the input that holds its zero point.
    """

    index: int
    data: int
    axes: _Axes
    kind: str = ""
    zero: int | None = None


def _conv_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    return 0, 1


def _conv_transpose_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    return 1, 0


def _no_axes(node: ir.Node, rank: int) -> tuple[None, None]:
    return None, None


def _recurrent_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    return 1, 2


def _left_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    transposed = _flag(node, "transA")
    return (rank - 1, rank - 2) if transposed else (rank - 2, rank - 1)


def _right_axes(node: ir.Node, rank: int) -> tuple[int, int]:
    transposed = _flag(node, "transB")
    return (rank - 2, rank - 1) if transposed else (rank - 1, rank - 2)


def in_groups(node: ir.Node) -> int:
    """Return how many groups of channels share the input axis, each summed by itself."""
    groups = integers(node, "group") if node.op_type == "ConvTranspose" else None
    return groups[0] if groups else 1


def _flag(node: ir.Node, name: str) -> bool:
    return any(integers(node, name) or [])


_LINEAR = (Operand(1, 0, _right_axes), Operand(0, 1, _left_axes))
_RECURRENT = (
    Operand(1, 0, _recurrent_axes, "recurrent"),
    Operand(2, 0, _recurrent_axes, "recurrent"),
)
_MICROSOFT = "com.microsoft"

OPERANDS: dict[tuple[str, str], tuple[Operand, ...]] = {
    ("", "Conv"): (Operand(1, 0, _conv_axes),),
    (_MICROSOFT, "FusedConv"): (Operand(1, 0, _conv_axes),),
    (_MICROSOFT, "NhwcFusedConv"): (Operand(1, 0, _conv_axes),),
    ("com.microsoft.nchwc", "Conv"): (Operand(1, 0, _conv_axes),),
    ("", "ConvTranspose"): (Operand(1, 0, _conv_transpose_axes),),
    ("", "Gemm"): _LINEAR,
    (_MICROSOFT, "FusedGemm"): _LINEAR,
    ("", "MatMul"): _LINEAR,
    (_MICROSOFT, "FusedMatMul"): _LINEAR,
    (_MICROSOFT, "GemmFastGelu"): _LINEAR,
    ("", "LSTM"): _RECURRENT,
    ("", "GRU"): _RECURRENT,
    ("", "RNN"): _RECURRENT,
    ("", "ConvInteger"): (Operand(1, 0, _conv_axes, "quantised", 3),),
    ("", "QLinearConv"): (Operand(3, 0, _conv_axes, "quantised", 5),),
    (_MICROSOFT, "QLinearConv"): (Operand(3, 0, _conv_axes, "quantised", 5),),
    ("", "MatMulInteger"): (
        Operand(1, 0, _right_axes, "quantised", 3),
        Operand(0, 1, _left_axes, "quantised", 2),
    ),
    ("", "QLinearMatMul"): (
        Operand(3, 0, _right_axes, "quantised", 5),
        Operand(0, 3, _left_axes, "quantised", 2),
    ),
    (_MICROSOFT, "QGemm"): (Operand(3, 0, _right_axes, "quantised", 5),),
    (_MICROSOFT, "MatMulIntegerToFloat"): (Operand(1, 0, _right_axes, "quantised", 5),),
    (_MICROSOFT, "DynamicQuantizeMatMul"): (Operand(1, 0, _right_axes, "quantised", 3),),
    (_MICROSOFT, "MatMulNBits"): (Operand(1, 0, _conv_axes, "quantised"),),
    (_MICROSOFT, "QAttention"): (Operand(1, 0, _right_axes, "quantised", 7),),
    (_MICROSOFT, "Attention"): (Operand(1, 0, _right_axes, "optional"),),
    ("", "DeformConv"): (Operand(1, 0, _conv_axes, "optional"),),
    ("", "Einsum"): (
        Operand(1, 0, _no_axes, "optional"),
        Operand(0, 1, _no_axes, "optional"),
    ),
}
