"""GridSample has no gradient."""

from itertools import product
from typing import Any

import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["grid_sample"]


@RULES.register("GridSample", "com.microsoft.GridSample")
def grid_sample(node: ir.Node, op: Builder) -> Result:
    """GatherElements of the corners around each point, weighted."""
    x, grid = op.inputs(2)
    mode = node.attributes.get_string("mode", "linear")
    if mode not in ("linear", "bilinear", "nearest") or op.rank(x) != 4:
        return f"it has mode {mode} and rank {op.rank(x)}"
    batch, channels, height, width = op.shape(x)
    _, rows, columns, _ = op.shape(grid)
    positions = [
        _position(node, op, op.Slice(grid, [k], [k + 1], [3]), size)
        for k, size in enumerate((width, height))
    ]
    nearest = mode == "nearest"
    corners = [
        [op.truncate(op.Round(p, _right=True))] if nearest else _around(op, p) for p in positions
    ]
    pixels = op.Reshape(x, [batch, channels, height * width])
    outside = node.attributes.get_string("padding_mode", "zeros") == "zeros"
    total = None
    for left, top in product(*corners):
        weights = []
        for place, position, size in zip((left, top), positions, (width, height), strict=True):
            weight = None if nearest else op.Sub(1.0, op.Abs(op.Sub(position, place)))
            if outside:
                inside = op.And(op.GreaterOrEqual(place, 0.0), op.LessOrEqual(place, size - 1.0))
                inside = op.cast_like(inside, x)
                weight = inside if weight is None else op.Mul(weight, inside)
            weights.append(weight)
        row, column = op.Clip(top, 0.0, height - 1.0), op.Clip(left, 0.0, width - 1.0)
        index = op.Cast(op.Add(op.Mul(row, float(width)), column), to=ir.DataType.INT64)
        index = op.Expand(op.Reshape(index, [batch, 1, -1]), [batch, channels, rows * columns])
        value = op.Reshape(
            op.GatherElements(pixels, index, axis=2), [batch, channels, rows, columns]
        )
        for weight in weights:
            if weight is not None:
                value = op.Mul(value, op.Reshape(weight, [batch, 1, rows, columns]))
        total = value if total is None else op.Add(total, value)
    return total


def _position(node: ir.Node, op: Builder, coordinate: Any, size: int) -> Any:
    """Return the pixel position of coordinates in [-1, 1], moved inside as padding_mode asks."""
    aligned = node.attributes.get_int("align_corners", 0)
    factor = (size - 1) / 2 if aligned else size / 2
    position = op.Add(op.Mul(coordinate, factor), (size - 1) / 2)
    padding = node.attributes.get_string("padding_mode", "zeros")
    if padding == "zeros":
        return position
    low, span = (0.0, size - 1.0) if aligned else (-0.5, float(size))
    if padding == "reflection" and span:  # an axis of one pixel has none
        distance = op.Abs(op.Sub(position, low))
        turns = op.truncate(op.Mul(distance, 1 / (2 * span)))
        folded = op.Abs(op.Sub(op.Sub(distance, op.Mul(turns, 2 * span)), span))
        position = op.Sub(low + span, folded)
    return op.Clip(position, 0.0, size - 1.0)


def _around(op: Builder, position: Any) -> list[Any]:
    """Return the pixels before and behind, which no gradient passes."""
    before = op.truncate(op.Floor(position, _right=True))
    return [before, op.Add(before, 1.0)]
