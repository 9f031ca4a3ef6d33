"""The layer that scores classes: fitted so that answers stay, also for classes without a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnx_unipts.reconstruction.held_out import HELD_OUT
from onnx_unipts.reconstruction.least_squares import (
    Moments,
    Prior,
    Search,
    damped,
    masked_least_squares,
)
from onnx_unipts.reconstruction.linear_layer import LinearLayer, only_use
from onnx_unipts.student import Student
from onnx_unipts.targets import Target, divergence

__all__ = ["class_means", "fitted_scores", "rows_needed", "scoring_layers"]

# Those tried under the given mask: how much what weights tell of inputs counts, beside the rows
# seen. MobileNetV2's classifier alone, 14 % of it kept and fitted to 480 images: divergence 1.12 by
# squared error, 0.17 with the last of these.
PRIORS = tuple(Prior(0.01, weights) for weights in (0.0, 1.0, 10.0, 100.0, 1000.0))
# Those tried where the mask is searched: how much the means of classes count. The same classifier
# behind layers that are sparse too: divergence 1.47 with the above, 1.16 with these, on new images.
CLASS_PRIORS = (10.0, 100.0)
# How alike inputs are taken to vary within a class, beside what is seen of it: a share of the mean
# of their variances.
SHRINKAGE = 1.0
# Rows that are looked at, at most, and scores of all of them.
ROWS = 4096
ALL_SCORES = 1 << 25
# Operators between the layer and its scores that only rearrange them.
RESHAPING = {"Flatten", "Identity", "Reshape", "Squeeze"}

_SCORES = Target("", "", "classes")

# W and its bias, the means of classes, rows x and y, what is fitted and its bias -> both trained.
Train = Callable[..., tuple[np.ndarray, np.ndarray]]


def scoring_layers(student: Student, layers: Mapping[str, LinearLayer]) -> dict[str, str]:
    """Return those of ``layers`` whose outputs are class scores, with the name of their bias.

    Convolutions, Gemm nodes and MatMul nodes before an Add, with a bias of their own: one number
    per class.
    """
    targets = {target.value: target for target in student.targets if target.kind == "classes"}
    inputs = {value.name: value for value in student.model.graph.inputs}
    found = {}
    for name, layer in layers.items():
        use = only_use(inputs[name])
        assert use is not None
        node, index = use
        biased, bias = _biased(node, student)
        scores = _scores(biased)
        target = targets.get(str(scores.name))
        scaled = any(node.attributes.get_float(key, 1.0) != 1.0 for key in ("alpha", "beta"))
        if target is None or not bias or scaled or layer.groups > 1 or index != 1:
            continue
        assert layer.layout.out_axis is not None
        classes = student.tensors[name].shape[layer.layout.out_axis]
        if student.tensors[bias].shape[-1:] != (classes,) or student.tensors[bias].size != classes:
            continue
        if _has_classes(scores, target.axis, 1 if layer.kernel else -1, classes):
            found[name] = bias
    return found


def rows_needed(classes: int) -> int:
    """Return how many rows are looked at, at most, for so many ``classes``."""
    return max(min(ROWS, ALL_SCORES // classes), 2 * HELD_OUT)


def fitted_scores(
    matrix: np.ndarray,
    bias: np.ndarray,
    mask: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    seen: int | None = None,
    search: Search | None = None,
    positions: np.ndarray | None = None,
    priors: Sequence[Prior] = PRIORS,
    train: Train | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights, zero where ``mask`` is False, and the bias that best give the scores.

    ``matrix`` (classes, K) and ``bias`` (classes,) make the scores of ``x`` (rows, K), what enters
    the layer in the dense model; ``y`` (rows, K) enters in the student. Squared errors of scores
    say little of answers, and a few samples nothing of most classes: of ``priors`` the one is taken
    whose scores diverge least on rows held out: those from ``seen`` on, or the last fourth. The
    bias makes up for the mean of what is missing (Nagel et al., arXiv 1906.04721, section 4.2).

    The masks that ``search`` finds are tried beside ``mask``, one for each of `CLASS_PRIORS`: that
    the means of all classes enter as well, those of `class_means` where ``positions`` (rows, K) of
    the student vary; without these, ``y`` does. What is fitted can ``train`` on, which knows these
    means, too. Float64.
    """
    x, y, matrix = (array.astype(np.float64) for array in (x, y, matrix))
    seen = max(len(x) - len(x) // HELD_OUT, 1) if seen is None else seen
    wanted = x @ matrix.T + bias
    means = np.zeros((0, matrix.shape[1]))
    if search is not None or train is not None:
        means = class_means(matrix, y if positions is None else positions.astype(np.float64))
    expected = (means.T @ means)[None] / max(float(np.square(means).sum()), 1e-300)

    def moments(rows: slice) -> Moments:
        ours, dense = y[rows], x[rows]
        return Moments((ours.T @ ours)[None], (dense.T @ ours)[None], len(ours))

    def assuming(classes: float, known: Moments) -> Moments:
        assumed = classes * np.trace(known.own[0]) * expected
        return Moments(known.own + assumed, known.cross + assumed, known.count)

    def fit(way: _Way, known: Moments, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        entering = assuming(way.classes, known)
        weights = masked_least_squares(matrix[None], way.mask, entering, way.prior)[0]
        return weights, wanted[rows].mean(axis=0) - y[rows].mean(axis=0) @ weights.T

    ways = [_Way(mask[None], prior) for prior in priors]
    whole = moments(slice(None))
    if seen == len(x):
        return fit(ways[0], whole, slice(None))
    known = moments(slice(seen))

    def error(way: _Way) -> float:
        weights, moved = fit(way, known, slice(seen))
        return divergence(_SCORES, wanted[seen:], y[seen:] @ weights.T + moved)

    if search is not None:
        for classes in CLASS_PRIORS:
            found = search(matrix[None], mask[None], assuming(classes, known), PRIORS[0])
            ways.append(_Way(found, PRIORS[0], classes))
    final = fit(min(ways, key=error), whole, slice(None))
    return final if train is None else train(matrix, bias, means, x, y, *final)


def class_means(matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return where inputs of each class lie on average, (classes, K), from the mean of all classes.

    ``matrix`` is W, (classes, K), the weights of a linear discriminant: means are S W^T, where S is
    how inputs vary within a class (Hastie et al., The Elements of Statistical Learning, section
    4.3). That is measured on ``rows`` (rows, K), which may be of any class, and shrunk to a
    multiple of the identity.
    """
    spread = np.cov(rows, rowvar=False, bias=True).reshape(rows.shape[1], -1)
    means = matrix @ damped(spread[None], SHRINKAGE)[0]
    return means - means.mean(axis=0)


@dataclass(frozen=True)
class _Way:
    """A way to fit: a mask (1, classes, K), what is assumed, how much the class means count."""

    mask: np.ndarray
    prior: Prior
    classes: float = 0.0


def _scores(node: ir.Node) -> ir.Value:
    """Return what ``node`` makes, behind operators that rearrange it."""
    value = node.outputs[0]
    while not value.is_graph_output() and len(uses := list(value.uses())) == 1:
        after, index = uses[0]
        if after.op_type not in RESHAPING or index != 0:
            break
        value = after.outputs[0]
    return value


def _has_classes(scores: ir.Value, axis: int, expected: int, classes: int) -> bool:
    """Tell whether ``axis`` is the one ``expected``, and known to have so many ``classes``.

    What a Reshape has torn apart or joined has another number.
    """
    if scores.shape is None:
        return False
    sizes = list(scores.shape)
    rank = len(sizes)
    return axis % rank == expected % rank and sizes[axis] == classes


def _biased(node: ir.Node, student: Student) -> tuple[ir.Node, str]:
    """Return what adds the bias to what ``node`` multiplies, and its name, empty without one."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if node.op_type == "MatMul":
        uses = list(node.outputs[0].uses())
        if len(uses) != 1 or uses[0].node.op_type != "Add" or node.outputs[0].is_graph_output():
            return node, ""
        node, index = uses[0]
        bias = node.inputs[1 - index]
    if bias is None or bias.name not in student.tensors or len(list(bias.uses())) != 1:
        return node, ""
    return node, str(bias.name)
