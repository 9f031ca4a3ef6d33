"""Making a fixed batch size dynamic, checked by running several batches at once and one by one."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.equivalence import is_known
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import from_proto, serialize, to_proto
from onnx_unipts.graph.runtime import onnxruntime

__all__ = ["with_dynamic_batch"]

logger = logging.getLogger(__name__)

BATCHES = 3
# What dynamic dimensions behind the batch are tried at, until the model runs.
TRIAL_SIZES = (2, 8, 16, 32, 64, 128, 256, 512)
# Samples that mix differ by far more than half precision computes differently in another batch.
TOLERANCE = 1e-2


def with_dynamic_batch(model: ir.Model) -> ir.Model:
    """Return ``model``, or if its batch size is fixed a copy that takes any number of samples.

    The first dimension of all inputs and outputs becomes dynamic, and constant shapes that begin
    with a multiple of the batch leave that open. The copy is run on several batches at once: every
    output has to be what ``model`` gives for them one by one.

    Raises `UnsupportedModelError` where it is not, and the batch stays fixed.
    """
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
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
    fed = [value for value in copy.graph.inputs if value.name not in copy.graph.initializers]
    for value in (*fed, *copy.graph.outputs):
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


def _objection(model: ir.Model, copy: ir.Model, batch: int) -> str | None:
    """Say why ``copy`` does not compute of several batches what ``model`` does of each."""
    try:
        one, several = (_session(runnable(each)) for each in (model, copy))
        feeds, parts = _parts(model, one, batch)
        found = several.run(None, feeds)
    except Exception as error:
        logger.info("the batch stays fixed: %s", error)
        node = re.search(r"node with name '(.+?)'|Name:'(.+?)'", str(error))
        return f"it fails at node {node[1] or node[2]}" if node else "it does not run"
    names = [value.name for value in model.graph.outputs]
    for name, actual, expected in zip(names, found, zip(*parts, strict=True), strict=True):
        per_sample = isinstance(actual, np.ndarray) and actual.ndim > 0
        if per_sample and _differ(actual, np.concatenate(expected)):
            return f"output {name} changes"
    return None


def _parts(
    model: ir.Model, session: onnxruntime.InferenceSession, batch: int
) -> tuple[dict[str, np.ndarray], list[Sequence[np.ndarray]]]:
    """Return random inputs for several batches, and the outputs for each batch of them."""
    error: Exception = ValueError("it does not run")
    for size in TRIAL_SIZES:
        feeds = _feeds(model, batch, size)
        try:
            return feeds, [
                session.run(None, {n: v[i * batch : (i + 1) * batch] for n, v in feeds.items()})
                for i in range(BATCHES)
            ]
        except Exception as caught:
            error = caught
    raise error


def _feeds(model: ir.Model, batch: int, size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        if value.name in model.graph.initializers or value.shape is None:
            continue
        dtype = value.dtype or ir.DataType.FLOAT
        shape = [batch * BATCHES, *(dim if is_known(dim) else size for dim in value.shape[1:])]
        floating = dtype.is_floating_point()
        array = rng.standard_normal(shape) if floating else rng.integers(0, 2, shape)
        feeds[str(value.name)] = array.astype(dtype.numpy())
    return feeds


def _differ(actual: np.ndarray, expected: np.ndarray) -> bool:
    if actual.shape != expected.shape:
        return True
    if not np.issubdtype(expected.dtype, np.floating):
        return False  # classes of equal scores may change places
    scale = max(float(np.abs(expected, dtype=np.float64).max(initial=0)), 1e-6)
    return not np.allclose(actual, expected, rtol=0, atol=TOLERANCE * scale, equal_nan=True)


def _session(model: ir.Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        serialize(model), options, providers=["CPUExecutionProvider"]
    )
