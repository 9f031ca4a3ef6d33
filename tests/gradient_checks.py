"""Checks of a gradient: what onnxruntime-training finds, against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper, parser
from operator_cases import Arrays, Case

from onnx_unipts.graph.differentiable import make_differentiable
from onnx_unipts.training.ort import GradientSession, build_gradient_graph, inference_session

STEPS = (1e-2, 3e-3, 1e-3)
DIRECTIONS = 3
# Right gradients are off by less than 2e-4 here (float32, curvature), wrong ones by more than 1e-2.
TOLERANCE = 2e-3


def proto_of(case: Case, body: str) -> onnx.ModelProto:
    """Return the checked model of ``body`` with the shapes of all values inferred."""
    header = f'<ir_version: 8, opset_import: ["" : {case.opset}, "com.microsoft" : 1]>'
    proto = parser.parse_model(f"{header} g () => (float y) {{ {body} }}")
    for name, value in case.values.items():
        shape: list[Any] = list(value.shape)
        if case.dynamic:
            shape[0] = "n"
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    stored = [numpy_helper.from_array(v, k) for k, v in case.constants.items()]
    proto.graph.initializer.extend(stored)
    for index, node in enumerate(proto.graph.node):
        node.name = f"node{index}"
    y = run(proto, case.values)
    shape = ["n", *y.shape[1:]] if case.dynamic else list(y.shape)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, shape))
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def run(model: onnx.ModelProto, values: Arrays) -> np.ndarray:
    session = inference_session(model.SerializeToString())
    known = {value.name for value in session.get_inputs()}
    return np.asarray(session.run(["y"], {k: v for k, v in values.items() if k in known})[0])


def gradients(model: ir.Model, case: Case, upstream: np.ndarray) -> Arrays:
    """Return the gradient of sum(y * upstream) by each parameter that it reaches."""
    (y,) = model.graph.outputs
    factor = ir.val("upstream", ir.DataType.FLOAT, y.shape)
    product = ir.node("Mul", [y, factor])
    product.outputs[0].name = "product"
    total = ir.node("ReduceSum", product.outputs, {"keepdims": 0})
    total.outputs[0].name = "loss"
    total.outputs[0].type, total.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    model.graph.extend([product, total])
    model.graph.inputs.append(factor)
    model.graph.outputs.append(total.outputs[0])
    graph = build_gradient_graph(model, case.parameters, "loss")
    return GradientSession(graph).run({**case.values, "upstream": upstream})[1]


def worst_error(case: Case, found: Arrays, upstream: np.ndarray) -> float:
    """Return the largest relative error of ``found`` along a few directions.

    Differences are central and taken at three step sizes, of which the best counts: a kink between
    the two sides spoils a large step, rounding a small one.
    """
    reference = proto_of(case, case.smooth or case.body)
    session = inference_session(reference.SerializeToString())
    known = {value.name for value in session.get_inputs()}
    feeds = {k: v for k, v in case.values.items() if k in known}

    def loss(values: Arrays) -> float:
        y = np.asarray(session.run(["y"], values)[0], np.float64)
        return float((y * upstream).sum())

    generator = np.random.default_rng(7)
    worst = 0.0
    for name in case.parameters:
        value, gradient = case.values[name], found[name].astype(np.float64)
        if gradient.shape != value.shape:
            return float("inf")
        for _ in range(DIRECTIONS):
            direction = generator.standard_normal(value.shape)
            expected = float((gradient * direction).sum())
            scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
            errors = []
            for step in STEPS:
                sides = (
                    np.asarray(value + sign * step * direction, np.float32) for sign in (1, -1)
                )
                up, down = (loss({**feeds, name: side}) for side in sides)
                measured = (up - down) / (2 * step)
                errors.append(abs(measured - expected) / max(1e-6, scale, abs(measured)))
            worst = max(worst, min(errors))
    return worst


def measured_error(case: Case, rewrite: bool) -> float:
    """Return the error of the gradient with or without the rules, infinite if there is none."""
    proto = proto_of(case, case.body)
    model = ir.from_proto(proto)
    if rewrite:
        make_differentiable(model)
    y = run(proto, case.values)
    upstream = np.asarray(np.random.default_rng(1).standard_normal(y.shape), np.float32)
    found = gradients(model, case, upstream)
    if set(found) != set(case.parameters):
        return float("inf")
    return worst_error(case, found, upstream)
