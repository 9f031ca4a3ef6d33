"""How many samples a model takes at a time; a fixed batch size made dynamic where that is right.

Checked by running several batches at once and one by one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.equivalence import is_known, relative_difference, require_feasible
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.lookups import read_sizes
from onnx_unipts.graph.model import fits_one_file, from_proto, serialize, to_proto
from onnx_unipts.graph.runtime import onnxruntime

__all__ = ["Batching", "batching_of", "opened", "with_dynamic_batch"]

logger = logging.getLogger(__name__)

BATCHES = 3
# What dynamic dimensions behind the batch are tried at, until the model runs.
TRIAL_SIZES = (2, 8, 16, 32, 64, 128, 256, 512)
# Samples that mix differ by far more than half precision computes differently in another batch.
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Batching:
    """How samples are fed to a model, and its outputs joined.

    Attributes:
        size: how many samples one run takes; None: any number, at least once it is `opened`.
        whole: the inputs without a sample axis: one run takes the array of one sample as it is.
            ``size`` is 1 then.
        reason: why ``size`` is not None.
    """

    size: int | None = None
    whole: frozenset[str] = field(default_factory=frozenset)
    reason: str = ""

    def runs(self, batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Yield what each run is fed for ``batch``, whose arrays have samples as first axis.

        The last run is filled up with the first samples where ``size`` does not divide the batch.
        """
        if self.size is None:
            yield dict(batch)
            return
        for start in range(0, len(next(iter(batch.values()))), self.size):
            rows = np.arange(start, start + self.size)
            yield {
                name: np.asarray(value[start])
                if name in self.whole
                else value.take(rows, 0, mode="wrap")
                for name, value in batch.items()
            }

    def joined(self, runs: Sequence[Sequence[np.ndarray]], count: int) -> list[np.ndarray]:
        """Join each output over all ``runs``: first axis the ``count`` samples.

        One whose shape depends on the data, such as the boxes that were found, becomes flat.
        """
        if self.size is None:
            return list(runs[0])
        return [self._joined(parts, count) for parts in zip(*runs, strict=True)]

    def _joined(self, parts: Sequence[np.ndarray], count: int) -> np.ndarray:
        if len({part.shape for part in parts}) > 1:
            return np.concatenate([part.reshape(-1) for part in parts])
        if parts[0].shape[:1] == (self.size,):
            return np.concatenate(parts)[:count]
        return np.stack(parts)


def batching_of(model: ir.Model) -> Batching:
    """Find out how samples are fed to ``model``; runs it.

    - All inputs have a dynamic first axis, and several samples give what each gives by itself; or
      all have the same fixed one and `with_dynamic_batch` can open it: any number of samples.
    - The first axis is fixed and holds independent samples: so many at a time.
    - Else one at a time: an input is a sample as a whole if its first axis is neither dynamic
      nor 1.
    """
    inputs = _fed(model)
    sizes = {str(value.name): _first_axis(value) for value in inputs}
    known = {size for size in sizes.values() if is_known(size)}
    if not fits_one_file(model):
        return _batching_by_shape(sizes)
    if not sizes or not known:
        reason = _objection(model, model, None) if sizes else None
        return Batching() if reason is None else Batching(1, reason=reason)
    (first, *others), reason = known, "its inputs have different first axes"
    if not others and all(is_known(size) for size in sizes.values()) and first:
        assert isinstance(first, int)
        try:
            with_dynamic_batch(model)
        except UnsupportedModelError as error:
            reason = str(error).partition(";")[0]
        else:
            return Batching()
        if first == 1 or _holds_samples(model, first):
            return Batching(first, reason=reason)
    whole = (name for name, size in sizes.items() if is_known(size) and size != 1)
    return Batching(1, frozenset(whole), reason)


def _batching_by_shape(sizes: Mapping[str, int | ir.SymbolicDim]) -> Batching:
    """Take the first axes for samples wherever they can be: the model is too large to be tried."""
    known = {size for size in sizes.values() if is_known(size)}
    reason = "the model is too large to be changed"
    if not known:
        return Batching()
    if len(known) == 1 and all(map(is_known, sizes.values())) and 0 not in known:
        return Batching(next(iter(known)), reason=reason)
    whole = (name for name, size in sizes.items() if is_known(size) and size != 1)
    return Batching(1, frozenset(whole), reason)


def opened(model: ir.Model) -> ir.Model:
    """Return ``model``, or where its batch size is fixed a copy with that open; not verified."""
    size = next((v.shape[0] for v in _fed(model) if v.shape is not None and len(v.shape)), None)
    return _opened(model, size) if isinstance(size, int) and is_known(size) else model


def with_dynamic_batch(model: ir.Model) -> ir.Model:
    """Return ``model``, or if its batch size is fixed a copy that takes any number of samples.

    The first dimension of all inputs and outputs becomes dynamic, and constant shapes that begin
    with a multiple of the batch leave that open. The copy is run on several batches at once: every
    output has to be what ``model`` gives for them one by one.

    Raises `UnsupportedModelError` where it is not, and the batch stays fixed.
    """
    inputs = _fed(model)
    sizes = {str(value.name): value.shape[0] for value in inputs if value.shape}
    name, batch = next(iter(sizes.items()), ("", None))
    if not batch or not all(is_known(size) for size in sizes.values()):
        return model
    assert isinstance(batch, int)
    copy = _opened(model, batch)
    objection = _objection(model, copy, batch)
    if objection is not None:
        raise UnsupportedModelError(
            f"input {name} has the fixed batch size {batch}, and with another "
            f"{objection}; export the model with a dynamic batch axis"
        )
    return copy


def _fed(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def _first_axis(value: ir.Value) -> int | ir.SymbolicDim:
    """Return the first dimension, 0 where there is none; of an unknown shape it is dynamic."""
    if value.shape is None:
        return ir.SymbolicDim(None)
    return value.shape[0] if len(value.shape) else 0


def _opened(model: ir.Model, batch: int) -> ir.Model:
    inferred = from_proto(onnx.shape_inference.infer_shapes(to_proto(model), data_prop=True))
    shapes = {value.name: value.shape for node in inferred.graph for value in node.outputs}
    copy = model.clone()
    for node in list(copy.graph):
        if node.op_type == "Reshape":
            _open_reshape(node, batch, shapes.get(node.outputs[0].name))
    for graph in copy.graphs():
        for node in graph:
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None
    for value in (*_fed(copy), *copy.graph.outputs):
        if value.shape and value.shape[0] == batch:
            value.shape = ir.Shape(["batch", *value.shape[1:]])
    return copy


def _open_reshape(node: ir.Node, batch: int, made: ir.Shape | None) -> None:
    """Leave the first dimension of a constant shape open if it is a multiple of the batch."""
    constant = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] else None
    shape = [] if constant is None else constant.numpy().tolist()
    if not shape or shape[0] <= 0 or shape[0] % batch:
        return
    if made is not None and all(is_known(dim) for dim in made):
        shape = [-1, *made[1:]]
    elif -1 not in shape:
        shape[0] = -1
    elif shape[0] == batch and not node.attributes.get_int("allowzero", 0):
        shape[0] = 0
    opened = ir.node(
        "Constant", [], {"value": ir.AttrTensor("value", ir.tensor(np.array(shape, np.int64)))}
    )
    node.prepend(opened)
    node.replace_input_with(1, opened.outputs[0])


def _objection(model: ir.Model, copy: ir.Model, batch: int | None) -> str | None:
    """Say why ``copy`` does not compute of several batches what ``model`` does of each.

    Without a ``batch`` the two are the same model, whose first axes are dynamic; one that does not
    run on random inputs is given the benefit of the doubt.
    """
    try:
        one = _session(runnable(model))
        several = _session(runnable(copy)) if copy is not model else one
        feeds, parts = _parts(model, one, batch or 1)
    except Exception as error:
        logger.info("batches are not compared: %s", error)
        return None if batch is None else _failure(error)
    try:
        found = several.run(None, feeds)
    except Exception as error:
        logger.info("the batch stays fixed: %s", error)
        return _failure(error)
    names = [value.name for value in model.graph.outputs]
    for name, actual, expected in zip(names, found, zip(*parts, strict=True), strict=True):
        per_sample = isinstance(actual, np.ndarray) and actual.ndim > 0
        if per_sample and not _is_made_of(actual, expected):
            return f"output {name} changes"
    return None


def _is_made_of(array: np.ndarray, parts: Sequence[np.ndarray]) -> bool:
    """Tell whether ``parts`` one below the other are ``array``."""
    if len({part.shape[1:] for part in parts}) > 1:
        return False
    return not _differ(array, np.concatenate(parts))


def _failure(error: Exception) -> str:
    node = re.search(r"node with name '(.+?)'|Name:'(.+?)'", str(error))
    return f"it fails at node {node[1] or node[2]}" if node else "it does not run"


def _holds_samples(model: ir.Model, batch: int) -> bool:
    """Tell whether the fixed first axes hold independent samples.

    That is, whether other values in the last row leave the other rows of all outputs as they are.
    """
    try:
        session = _session(runnable(model))
        feeds = {
            name: array[:batch] for name, array in _feeds(model, batch, TRIAL_SIZES[0]).items()
        }
        before = session.run(None, feeds)
        for array in feeds.values():
            array[-1] = array[0]
        after = session.run(None, feeds)
    except Exception as error:
        logger.info("the first axis is not taken for samples: %s", error)
        return False
    return all(
        np.shape(ours)[:1] == (batch,) and not _differ(theirs[:-1], ours[:-1])
        for ours, theirs in zip(before, after, strict=True)
    )


def _parts(
    model: ir.Model, session: onnxruntime.InferenceSession, batch: int
) -> tuple[dict[str, np.ndarray], list[Sequence[np.ndarray]]]:
    """Return random inputs for several batches, and the outputs for each batch of them."""
    error: Exception = ValueError("it does not run")
    for size in TRIAL_SIZES:
        try:
            feeds = _feeds(model, batch, size)
            return feeds, [
                session.run(None, {n: v[i * batch : (i + 1) * batch] for n, v in feeds.items()})
                for i in range(BATCHES)
            ]
        except Exception as caught:
            error = caught
    raise error


def _feeds(model: ir.Model, batch: int, size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    known = read_sizes(model)
    feeds = {}
    for value in model.graph.inputs:
        if value.name in model.graph.initializers or value.shape is None:
            continue
        dtype = value.dtype or ir.DataType.FLOAT
        sizes = known.get(str(value.name), {})
        behind = enumerate(value.shape[1:], start=1)
        shape = [
            batch * BATCHES,
            *(dim if is_known(dim) else sizes.get(axis, size) for axis, dim in behind),
        ]
        require_feasible(shape)
        floating = dtype.is_floating_point()
        array = rng.standard_normal(shape) if floating else rng.integers(0, 2, shape)
        feeds[str(value.name)] = array.astype(dtype.numpy())
    return feeds


def _differ(actual: np.ndarray, expected: np.ndarray) -> bool:
    if actual.shape != expected.shape:
        return True
    if not np.issubdtype(expected.dtype, np.floating):
        return False  # classes of equal scores may change places
    return relative_difference(expected, actual) > TOLERANCE


def _session(model: ir.Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        serialize(model), options, providers=["CPUExecutionProvider"]
    )
