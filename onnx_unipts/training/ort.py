"""The one place that touches onnxruntime's training parts: from a graph with a loss to gradients.

Only the gradient builder of the training build is used, from the compiled module: importing the
package ``onnxruntime.training`` would pull torch in.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import onnx
import onnx_ir as ir

from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.differentiable import (
    partly_reached_inputs,
    reached_inputs,
    stop_gradients,
)
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import is_ort_format, load_model, serialize
from onnx_unipts.graph.normalization import Normalization
from onnx_unipts.graph.reason import reason_of
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.targets import Target, with_measured
from onnx_unipts.training.gradient_graph import simplify_gradients

__all__ = [
    "RUNTIME_ERRORS",
    "GradientGraph",
    "GradientSession",
    "InferenceSession",
    "build_gradient_graph",
    "file_session",
    "inference_session",
    "model_session",
]

SILENT = 4

InferenceSession = onnxruntime.InferenceSession
_errors = onnxruntime.capi.onnxruntime_pybind11_state
# What sessions raise where a model does not load or run.
RUNTIME_ERRORS = (
    _errors.Fail,
    _errors.InvalidArgument,
    _errors.InvalidGraph,
    _errors.NotImplemented,
    _errors.RuntimeException,
)


@dataclass(frozen=True)
class GradientGraph:
    """A training graph as bytes: weights are inputs; loss, gradients and statistics are outputs.

    ``parameters`` are the trained tensors that gradients reach, ``unreached`` those that none does.
    ``stopped`` names the nodes that no gradient passes, with the reason, and ``partial`` those
    parameters whose gradients leave out what goes through these.
    """

    model: bytes
    loss: str
    parameters: tuple[str, ...]
    unreached: tuple[str, ...]
    normalizations: tuple[Normalization, ...]
    stopped: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()


class GradientSession:
    """Runs a gradient graph on one thread. Several of them, one per core, share a batch."""

    def __init__(self, graph: GradientGraph) -> None:
        """Build the session of ``graph``."""
        self._graph = graph
        options = _options(threads=1)
        self._session = onnxruntime.InferenceSession(
            graph.model, options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._outputs = [graph.loss, *(f"{name}_grad" for name in graph.parameters)]
        self._statistics = [name for norm in graph.normalizations for name in norm.statistics]
        self._outputs += [f"{name}/observed" for name in self._statistics]

    def run(
        self, feeds: Mapping[str, np.ndarray]
    ) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return loss, gradient by parameter, and batch statistics by tensor name."""
        fed = {name: value for name, value in feeds.items() if name in self._inputs}
        loss, *values = self._session.run(self._outputs, fed)
        count = len(self._graph.parameters)
        gradients = dict(zip(self._graph.parameters, values[:count], strict=True))
        statistics = dict(zip(self._statistics, values[count:], strict=True))
        return float(loss), gradients, statistics

    def loss(self, feeds: Mapping[str, np.ndarray]) -> float:
        """Return the loss alone, in a quarter of the time."""
        fed = {name: value for name, value in feeds.items() if name in self._inputs}
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        return float(self._session.run([self._graph.loss], fed, options)[0])


def inference_session(
    model: bytes | str, threads: int = 1, *, optimize: bool = True, in_order: bool = False
) -> onnxruntime.InferenceSession:
    """Return a quiet inference session on the CPU with ``threads`` threads.

    ``model`` is a serialised model or a path. The path is what models over 2 GB need. With
    ``in_order`` the first of the graph's nodes that can run is the next to run: what stands beside
    a value runs before what comes after it.
    """
    options = _options(threads)
    if in_order:
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def file_session(
    path: str | os.PathLike[str], threads: int = 1, targets: Sequence[Target] = ()
) -> onnxruntime.InferenceSession:
    """Return an inference session of a model file, also of one newer than the runtime.

    It outputs inner ``targets`` as well.
    """
    if is_ort_format(path):
        return inference_session(os.fspath(path), threads)
    model = load_model(path)
    able = runnable(with_measured(model, targets))
    return inference_session(os.fspath(path) if able is model else serialize(able), threads)


def model_session(
    model: ir.Model, threads: int = 1, targets: Sequence[Target] = ()
) -> onnxruntime.InferenceSession:
    """Return an inference session of ``model`` as `file_session` does of one in a file."""
    return inference_session(serialize(runnable(with_measured(model, targets))), threads)


def build_gradient_graph(
    model: ir.Model,
    parameters: Sequence[str],
    loss: str,
    normalizations: Sequence[Normalization] = (),
) -> GradientGraph:
    """Differentiate the scalar output ``loss`` of ``model`` by its inputs ``parameters``.

    ``model`` has static shapes; every BatchNormalization in it trains, with the statistics of the
    batch. Raises `UnsupportedModelError` with the builder's reason where it finds no gradient.
    """
    stopped = tuple(stop_gradients(model, parameters))
    partial = partly_reached_inputs(model)
    reached = reached_inputs(model, [loss])
    wanted = [name for name in parameters if name in reached]
    if not wanted:
        cut = f", cut off by {', '.join(stopped)}" if stopped else ""
        raise UnsupportedModelError(f"no gradient reaches any of the trained tensors{cut}")
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model), data_prop=True)
    serialized = inferred.SerializeToString()
    options = _options(threads=1)
    try:
        if any(node.op_type in ("BatchNormalization", "LSTM", "GRU") for node in model.graph):
            serialized = _compiled().get_optimized_model(serialized, set(wanted), options)
        builder = _compiled().GradientGraphBuilder(serialized, {loss}, set(wanted), loss, options)
        builder.build()
    except Exception as error:
        raise UnsupportedModelError(
            f"no gradient graph can be built: {reason_of(error)}"
        ) from error
    graph = ir.from_proto(onnx.load_model_from_string(builder.get_model()))
    made = _with_outputs(graph, parameters, loss, normalizations)
    return replace(made, stopped=stopped, partial=tuple(p for p in parameters if p in partial))


def _with_outputs(
    model: ir.Model, parameters: Sequence[str], loss: str, normalizations: Sequence[Normalization]
) -> GradientGraph:
    graph = model.graph
    made = {value.name: value for value in graph.outputs}
    reached = tuple(name for name in parameters if f"{name}_grad" in made)
    graph.outputs.clear()
    graph.outputs.extend(made[name] for name in (loss, *(f"{n}_grad" for n in reached)))
    for norm in normalizations:
        _output_statistics(graph, norm)
    simplify_gradients(model)
    return GradientGraph(
        serialize(model),
        loss,
        reached,
        tuple(name for name in parameters if name not in reached),
        tuple(normalizations),
    )


def _output_statistics(graph: ir.Graph, norm: Normalization) -> None:
    """Turn the batch statistics, which the kernel mixes into the running ones, into outputs."""
    node = next(
        n
        for n in graph
        if n.op_type == "BatchNormInternal"
        and n.inputs[3] is not None
        and n.inputs[3].name == norm.mean
    )
    node.attributes["momentum"] = ir.AttrFloat32("momentum", 0.0)
    for value, name in zip(node.outputs[1:3], norm.statistics, strict=True):
        value.name = f"{name}/observed"
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape([norm.channels])
        graph.outputs.append(value)


def _compiled() -> ModuleType:
    return importlib.import_module("onnxruntime.capi._pybind_state")


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SILENT
    options.enable_mem_pattern = False  # cuts the peak memory by a third at no cost
    return options
