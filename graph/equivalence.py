"""Telling whether a rewritten model still computes the same, by running both on random inputs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.lookups import read_sizes
from onnx_unipts.graph.model import serialize, stored_tensors
from onnx_unipts.graph.runtime import onnxruntime as ort

__all__ = [
    "Equivalence",
    "batch_names",
    "is_batch",
    "is_known",
    "relative_difference",
    "require_feasible",
]

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2
# Elements of an input that is tried out, at most.
LARGEST = 2**27
# What the batch and the other dynamic dimensions are tried at, until the model runs.
TRIAL_SIZES = ((2, 2), (1, 1), (2, 8), (1, 16), (1, 32), (1, 64), (1, 128), (1, 256), (1, 512))


class Equivalence:
    """Random inputs and the outputs that a reference model gives for them.

    Inputs that carry a ``const_value`` (the parameters of a cleaned model) are fed with it, floats
    with normal values, integers with zeros and ones.

    Attributes:
        loads: whether onnxruntime loads the reference.
        outputs: what it gave for the inputs; None where it does not load, or not run on them. All
            that can be asked of another model then is that onnxruntime loads it.
    """

    def __init__(self, reference: ir.Model) -> None:
        self.loads = False
        self.outputs: list[Any] | None = None
        self._names = [value.name for value in reference.graph.outputs]
        self._tolerance = HALF_TOLERANCE if _computes_in_half(reference) else TOLERANCE
        self._feeds: dict[str, np.ndarray] = {}
        try:
            session = _session(reference)
        except Exception as error:
            logger.info("not verified, onnxruntime does not load the model: %s", error)
            return
        self.loads = True
        sizes = TRIAL_SIZES if _is_dynamic(reference) else TRIAL_SIZES[:1]
        for batch, other in sizes:
            try:
                self._feeds = _feeds(reference, batch, other)
                self.outputs = session.run(None, self._feeds)
                return
            except Exception as error:
                logger.debug("the model does not run at %d and %d: %s", batch, other, error)
        logger.info("not verified, the model does not run on random inputs")

    def observed(self, model: ir.Model, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the arrays among the values ``names`` of ``model`` for the inputs; {} on failure.

        Their types need not be known: onnxruntime finds them out.
        """
        if self.outputs is None or not names:
            return {}
        copy = model.clone()
        values = {value.name: value for node in copy.graph for value in node.outputs}
        copy.graph.outputs.clear()
        copy.graph.outputs.extend(values[name] for name in names)
        for name in names:
            values[name].type = values[name].shape = None
        try:
            session = _session(copy)
            known = {value.name for value in session.get_inputs()}
            feeds = {name: array for name, array in self._feeds.items() if name in known}
            arrays = session.run(list(names), feeds)
        except Exception as error:
            logger.info("types and shapes stay unknown: %s", error)
            return {}
        found = zip(names, arrays, strict=True)
        return {name: array for name, array in found if isinstance(array, np.ndarray)}

    def objection(self, model: ir.Model) -> str | None:
        """Say in what ``model`` differs from the reference; None if it does not.

        Differences up to 1e-4 of the largest value of an output count as none, 1e-2 where the
        model computes in half precision.
        """
        try:
            session = _session(model)
            if self.outputs is None:
                return None
            actual = session.run(None, self._feeds)
        except Exception as error:
            return str(error)
        for name, before, after in zip(self._names, self.outputs, actual, strict=True):
            difference = _difference(before, after)
            if difference > self._tolerance:
                return f"output {name!r} differs by {difference:.1e}"
        return None


def is_known(dim: object) -> TypeGuard[int]:
    """Tell whether a dimension is a number; some exporters write -1 for a dynamic one."""
    return isinstance(dim, int) and dim >= 0


def require_feasible(shape: Sequence[int]) -> None:
    """Raise `ValueError` for a shape too large to be tried out."""
    if math.prod(shape) > LARGEST:
        raise ValueError(f"shape {list(shape)} is too large to be tried")


def batch_names(model: ir.Model) -> set[str]:
    """Return the names that the dynamic first dimensions of the inputs have."""
    first = (dims[0] for value in model.graph.inputs if (dims := _dims(value)))
    return {dim.value for dim in first if isinstance(dim, ir.SymbolicDim) and dim.value}


def is_batch(dim: int | ir.SymbolicDim, axis: int, names: set[str]) -> bool:
    """Tell whether a dimension is the batch: dynamic, and first or of the name of a first one."""
    if is_known(dim):
        return False
    return axis == 0 or (isinstance(dim, ir.SymbolicDim) and dim.value in names)


def _session(model: ir.Model) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    content = serialize(_with_unfeedable_inside(model))
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _with_unfeedable_inside(model: ir.Model) -> ir.Model:
    """Turn parameters that numpy cannot hand to onnxruntime (bfloat16) back into initializers."""
    if not any(_is_unfeedable(value) for value in model.graph.inputs):
        return model
    model = model.clone()
    for value in [value for value in model.graph.inputs if _is_unfeedable(value)]:
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


def _is_unfeedable(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.BFLOAT16 and value.const_value is not None


def _is_dynamic(model: ir.Model) -> bool:
    return any(
        value.shape is None or not all(is_known(dim) for dim in value.shape)
        for value in model.graph.inputs
    )


def _computes_in_half(model: ir.Model) -> bool:
    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    stored = (tensor.tensor.dtype for tensor in stored_tensors(model).values())
    declared = (value.dtype for value in model.graph.inputs)
    return any(dtype in half for dtype in (*stored, *declared))


def _feeds(model: ir.Model, batch: int, other: int) -> dict[str, np.ndarray]:
    """Return an array for every input that is not an initializer, too."""
    rng = np.random.default_rng(0)
    names, known = batch_names(model), read_sizes(model)
    feeds = {}
    for value in model.graph.inputs:
        if _is_unfeedable(value) or value.name in model.graph.initializers:
            continue
        dtype = value.dtype or ir.DataType.FLOAT
        sizes = known.get(str(value.name), {})
        shape = [
            dim
            if is_known(dim)
            else sizes.get(axis, batch if is_batch(dim, axis, names) else other)
            for axis, dim in enumerate(_dims(value))
        ]
        require_feasible(shape)
        if value.const_value is not None:
            array = value.const_value.numpy()
        elif dtype.is_floating_point():
            array = rng.standard_normal(shape)
        else:
            array = rng.integers(0, 2, shape)
        target = np.str_ if dtype == ir.DataType.STRING else dtype.numpy()
        feeds[value.name or ""] = np.asarray(array).astype(target, copy=False)
    return feeds


def _dims(value: ir.Value) -> tuple[int | ir.SymbolicDim, ...]:
    return value.shape.dims if value.shape is not None else ()


def _difference(before: Any, after: Any) -> float:
    if not isinstance(before, np.ndarray):
        return 0.0 if type(before) is type(after) else math.inf
    return relative_difference(before, after) if before.dtype == after.dtype else math.inf


def relative_difference(before: np.ndarray, after: np.ndarray) -> float:
    """Return the largest difference, relative to the largest finite value of ``before``.

    Infinite for another shape, and where what is not finite, or no number, is not the same.
    """
    if before.shape != after.shape:
        return math.inf
    if before.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(before, after) else math.inf
    before, after = before.astype(np.float64), after.astype(np.float64)
    finite = np.isfinite(before)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True):
        return math.inf
    if not np.isfinite(after[finite]).all():
        return math.inf
    if not finite.any():
        return 0.0
    scale = max(float(np.abs(before[finite]).max()), 1e-6)
    return float(np.abs(after[finite] - before[finite]).max()) / scale
