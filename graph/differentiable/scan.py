"""Scan has no gradient."""

import onnx_ir as ir

from onnx_unipts.graph.differentiable.body import inlined, require_feasible
from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["scan"]


@RULES.register("Scan")
def scan(node: ir.Node, op: Builder) -> Result:
    """The body, step by step."""
    body = node.attributes["body"].as_graph()
    count = node.attributes.get_int("num_scan_inputs", 1)
    given = [value for value in node.inputs if value is not None]
    values, sequences = given[:-count], given[-count:]
    axes = _numbers(node, "scan_input_axes", count)
    turned = _numbers(node, "scan_input_directions", count)
    axes = [axis % op.rank(x) for x, axis in zip(sequences, axes, strict=True)]
    length = op.shape(sequences[0])[axes[0]]
    require_feasible(body, length)
    if not length:
        return "its sequence is empty"
    kept: list[list[ir.Value]] = []
    for step in range(length):
        places = [length - 1 - step if back else step for back in turned]
        parts = [
            op.Squeeze(op.Slice(x, [place], [place + 1], [axis]), [axis])
            for x, place, axis in zip(sequences, places, axes, strict=True)
        ]
        made = inlined(op, body, [*values, *parts])
        values, collected = made[: len(values)], made[len(values) :]
        kept.append(collected)
    columns = list(zip(*kept, strict=True))
    to = _numbers(node, "scan_output_axes", len(columns))
    turned = _numbers(node, "scan_output_directions", len(columns))
    for column, axis, back in zip(columns, to, turned, strict=True):
        wide = [op.Unsqueeze(part, [axis]) for part in column]
        values.append(op.Concat(*(reversed(wide) if back else wide), axis=axis))
    return values


def _numbers(node: ir.Node, name: str, count: int) -> list[int]:
    return list(node.attributes.get_ints(name) or [0] * count)
