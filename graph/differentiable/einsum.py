"""Einsum has no gradient."""

from collections.abc import Collection, Mapping, Sequence
from math import prod
from string import ascii_uppercase

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["einsum"]


@RULES.register("Einsum")
def einsum(node: ir.Node, op: Builder) -> Result:
    """Transpose, Reshape, MatMul and ReduceSum, operand by operand."""
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    operands = [value for value in node.inputs if value is not None]
    terms, output = _terms(equation, [op.rank(value) for value in operands])
    if any(len(set(term)) < len(term) for term in terms):
        return f"the equation {equation} takes a diagonal"
    sizes: dict[str, int] = {}
    for term, value in zip(terms, operands, strict=True):
        for label, size in zip(term, op.shape(value), strict=True):
            if sizes.setdefault(label, size) != size:
                return f"the equation {equation} broadcasts {label}"
    y, labels = operands[0], terms[0]
    for index, (right, term) in enumerate(zip(operands[1:], terms[1:], strict=True), start=2):
        needed = set(output).union(*terms[index:])
        y, labels = _contract(op, y, labels, right, term, needed, sizes)
    y, labels = _sum_out(op, y, labels, set(output))
    return _in_order(op, y, [labels.index(label) for label in output])


def _in_order(op: Builder, x: ir.Value, order: Sequence[int]) -> ir.Value:
    return x if list(order) == sorted(order) else op.Transpose(x, perm=order)


def _terms(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the labels of each operand and of the output; an ellipsis becomes capital letters."""
    left, arrow, output = equation.partition("->")
    terms = left.split(",")
    letters = [letter for letter in ascii_uppercase if letter not in equation]
    widths = [rank - len(term) + 3 for rank, term in zip(ranks, terms, strict=True)]
    wide = max((w for w, term in zip(widths, terms, strict=True) if "..." in term), default=0)
    if not arrow:
        once = (label for label in sorted(set(left) - set(",.")) if left.count(label) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    spelled = "".join(letters[:wide])
    return (
        [
            term.replace("...", spelled[wide - width :])
            for term, width in zip(terms, widths, strict=True)
        ],
        output.replace("...", spelled),
    )


def _sum_out(
    op: Builder, x: ir.Value, labels: str, needed: Collection[str]
) -> tuple[ir.Value, str]:
    """Sum over the axes whose label nothing needs any more."""
    axes = [axis for axis, label in enumerate(labels) if label not in needed]
    if not axes:
        return x, labels
    kept = "".join(label for label in labels if label in needed)
    return op.reduce("ReduceSum", x, axes, keepdims=0), kept


def _contract(
    op: Builder,
    left: ir.Value,
    left_labels: str,
    right: ir.Value,
    right_labels: str,
    needed: Collection[str],
    sizes: Mapping[str, int],
) -> tuple[ir.Value, str]:
    """Return the product of two operands, summed over what both have and nothing needs."""
    left, left_labels = _sum_out(op, left, left_labels, {*needed, *right_labels})
    right, right_labels = _sum_out(op, right, right_labels, {*needed, *left_labels})
    shared = [label for label in left_labels if label in right_labels]
    batch = [label for label in shared if label in needed]
    summed = [label for label in shared if label not in needed]
    rows = [label for label in left_labels if label not in shared]
    columns = [label for label in right_labels if label not in shared]
    one = _arranged(op, left, left_labels, (batch, rows, summed), sizes)
    two = _arranged(op, right, right_labels, (batch, summed, columns), sizes)
    labels = [*batch, *rows, *columns]
    y = op.Reshape(op.MatMul(one, two), np.array([sizes[label] for label in labels], np.int64))
    return y, "".join(labels)


def _arranged(
    op: Builder,
    x: ir.Value,
    labels: str,
    groups: Sequence[Sequence[str]],
    sizes: Mapping[str, int],
) -> ir.Value:
    """Return ``x`` with its axes in the order of ``groups``, one axis per group."""
    order = [labels.index(label) for group in groups for label in group]
    shape = [prod(sizes[label] for label in group) for group in groups]
    return op.Reshape(_in_order(op, x, order), shape)
