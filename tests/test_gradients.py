"""The gradient of every trained tensor is what finite differences say it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper
from small_networks import draw, images, working_model

from onnx_unipts.graph import normalization
from onnx_unipts.graph.cleanup import freeze_batch
from onnx_unipts.graph.differentiable import make_differentiable
from onnx_unipts.graph.model import serialize
from onnx_unipts.graph.parameters import bind
from onnx_unipts.targets import Target
from onnx_unipts.training import ort
from onnx_unipts.training.gradient_graph import simplify_gradients
from onnx_unipts.training.objective import Temperatures, append_loss, loss_feeds
from onnx_unipts.training.ort import GradientGraph, GradientSession, build_gradient_graph

BATCH = 6
SHARED = Temperatures(teacher=4.0, inner=0.25, outer=16.0)
DECAYED = Temperatures(teacher=4.0, inner=1.0, outer=16 / 7.5)
CLASSES = Target("y", "y", "classes")

RESIDUAL = """
    c1 = Conv <pads = [1,1,1,1]> (x, w1)
    n1 = BatchNormalization (c1, s1, o1, m1, v1)
    r1 = Relu (n1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2, b2)
    n2 = BatchNormalization (c2, s2, o2, m2, v2)
    a = Add (n2, r1)
    r2 = Relu (a)
    p = AveragePool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,0,0]> (r2)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, w3, b3)"""


def residual_tensors() -> dict[str, np.ndarray]:
    tensors = draw(3, w1=(6, 3, 3, 3), w2=(6, 6, 3, 3), b2=(6,), w3=(4, 96), b3=(4,))
    rng = np.random.default_rng(4)
    for part in "12":
        tensors[f"s{part}"] = rng.uniform(0.5, 1.5, 6).astype(np.float32)
        tensors[f"o{part}"] = rng.standard_normal(6).astype(np.float32)
        tensors[f"m{part}"] = np.zeros(6, np.float32)
        tensors[f"v{part}"] = np.ones(6, np.float32)
    return tensors


def differentiated(
    body: str,
    tensors: Mapping[str, np.ndarray],
    target: Target = CLASSES,
    signature: str = "float[N,3,8,8] x => float[N,4] y",
) -> GradientGraph:
    """Return the gradient graph of a body of operators, by the steps that training takes."""
    model = freeze_batch(working_model(body, tensors, signature), BATCH)
    norms = normalization.find(model)
    normalization.train(model, norms)
    make_differentiable(model)
    statistics = {name for norm in norms for name in norm.statistics}
    trained = [name for name in tensors if name not in statistics]
    return build_gradient_graph(model, trained, append_loss(model, [target]), norms)


def taught(target: Target, shape: tuple[int, ...], temperatures: Temperatures = SHARED) -> dict:
    """Return the feeds of the loss for a teacher far from the student."""
    teacher = {target.value: (np.random.default_rng(9).standard_normal(shape) * 5).astype("f4")}
    return loss_feeds([target], teacher, temperatures, BATCH, {target.value: 2.0})


def error_of(
    session: GradientSession, feeds: dict[str, np.ndarray], name: str, gradient: np.ndarray
) -> float:
    """Return how far the slope is off, as a share of the gradient's length, over two directions.

    One runs along the gradient, the other half across it. The best of a few step sizes counts:
    long steps meet the kinks of Relu, short ones the rounding of float32.
    """
    length = np.linalg.norm(gradient.astype(np.float64))
    along = gradient / length
    across = np.random.default_rng(1).standard_normal(gradient.shape)
    across /= np.linalg.norm(across)
    worst = 0.0
    for direction in (along, along + across):
        direction = direction / np.linalg.norm(direction)
        slope = float((gradient * direction).sum())
        errors = []
        for step in np.array([0.03, 0.01, 0.003, 0.001]) * np.linalg.norm(feeds[name]):
            ends = [
                session.run({**feeds, name: (feeds[name] + s * direction).astype(np.float32)})[0]
                for s in (step, -step)
            ]
            errors.append(abs((ends[0] - ends[1]) / (2 * step) - slope) / length)
        worst = max(worst, min(errors))
    return worst


def assert_right(graph: GradientGraph, feeds: dict[str, np.ndarray], tolerance: float = 0.02):
    session = GradientSession(graph)
    _, gradients, _ = session.run(feeds)
    assert gradients.keys() == set(graph.parameters)
    for name, gradient in gradients.items():
        assert gradient.shape == feeds[name].shape
        assert gradient.dtype == np.float32
        assert error_of(session, feeds, name, gradient) < tolerance, name


# The whole network


@pytest.mark.parametrize(
    ("target", "temperatures"),
    [
        (CLASSES, SHARED),
        (CLASSES, DECAYED),
        (Target("y", "y", "probability"), SHARED),
        (Target("y", "y", "values"), SHARED),
    ],
    ids=["shared temperature", "decayed base", "probability", "values"],
)
def test_every_gradient_of_a_residual_network_is_right(target: Target, temperatures: Temperatures):
    graph = differentiated(RESIDUAL, residual_tensors(), target)
    assert set(graph.parameters) == {"w1", "s1", "o1", "w2", "b2", "s2", "o2", "w3", "b3"}
    feeds = {"x": images(BATCH), **residual_tensors(), **taught(target, (BATCH, 4), temperatures)}
    # The bias before a normalisation has no influence, and no gradient but rounding.
    _, gradients, _ = GradientSession(graph).run(feeds)
    assert np.abs(gradients["b2"]).max() < 1e-4 * np.abs(gradients["w2"]).max()
    rest = tuple(name for name in graph.parameters if name != "b2")
    session = GradientSession(graph)
    for name in rest:
        assert error_of(session, feeds, name, gradients[name]) < 0.02, name


def test_the_gradient_of_masked_weights_is_the_one_by_the_dense_weight():
    """Straight through: pruned weights have gradients, those of the pruned network."""
    tensors = residual_tensors()
    tensors["w2"] *= np.random.default_rng(0).random(tensors["w2"].shape) < 0.3
    graph = differentiated(RESIDUAL, tensors)
    feeds = {"x": images(BATCH), **tensors, **taught(CLASSES, (BATCH, 4))}
    session = GradientSession(graph)
    gradient = session.run(feeds)[1]["w2"]
    assert np.count_nonzero(gradient[tensors["w2"] == 0]) > 0.9 * (tensors["w2"] == 0).sum()
    assert error_of(session, feeds, "w2", gradient) < 0.02


def test_statistics_that_come_out_are_those_of_the_batch():
    tensors = residual_tensors()
    graph = differentiated(RESIDUAL, tensors)
    x = images(BATCH)
    _, _, statistics = GradientSession(graph).run(
        {"x": x, **tensors, **taught(CLASSES, (BATCH, 4))}
    )
    model = working_model(RESIDUAL, tensors)
    observing = normalization.with_batch_statistics(model, normalization.find(model))
    session = ort.inference_session(serialize(observing))
    names = [name for norm in normalization.find(model) for name in norm.observed]
    expected = session.run(names, {"x": x, **tensors})
    for name, value in zip(("m1", "v1", "m2", "v2"), expected, strict=True):
        np.testing.assert_allclose(statistics[name], value, rtol=1e-3, atol=1e-4)


def test_the_loss_of_slices_adds_up_to_that_of_the_batch():
    """Replicas divide by the size of the whole batch."""
    tensors = {k: v for k, v in residual_tensors().items() if k in ("w3", "b3")}
    body = "f = Flatten (x) y = Gemm <transB = 1> (f, w3, b3)"
    tensors["w3"] = draw(1, w3=(4, 192))["w3"]
    x = images(2 * BATCH)
    teacher = {"y": np.random.default_rng(9).standard_normal((2 * BATCH, 4)).astype(np.float32)}
    session = GradientSession(differentiated(body, tensors))
    halves = []
    for part in (slice(0, BATCH), slice(BATCH, None)):
        fed = loss_feeds([CLASSES], {"y": teacher["y"][part]}, SHARED, 2 * BATCH, {})
        halves.append(session.run({"x": x[part], **tensors, **fed}))
    scores = x.reshape(len(x), -1).astype(np.float64) @ tensors["w3"].T + tensors["b3"]
    z, t = scores / 4, teacher["y"] / 4
    p = np.exp(t) / np.exp(t).sum(axis=1, keepdims=True)
    q = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = -16 * (p * np.log(q)).sum(axis=1).mean()
    assert halves[0][0] + halves[1][0] == pytest.approx(expected, rel=1e-5)
    by_scores = 16 / 4 * (q - p) / len(x)
    gradient = halves[0][1]["b3"] + halves[1][1]["b3"]
    np.testing.assert_allclose(gradient, by_scores.sum(axis=0), rtol=1e-4, atol=1e-6)


def test_two_outputs_are_distilled_together():
    body = "f = Flatten (x) y = Gemm <transB = 1> (f, w1, b1) z = Gemm <transB = 1> (f, w2, b2)"
    tensors = draw(0, w1=(4, 192), b1=(4,), w2=(3, 192), b2=(3,))
    targets = [CLASSES, Target("z", "z", "values")]
    signature = "float[N,3,8,8] x => float[N,4] y, float[N,3] z"
    model = freeze_batch(working_model(body, tensors, signature), BATCH)
    graph = build_gradient_graph(model, list(tensors), append_loss(model, targets))
    rng = np.random.default_rng(0)
    teacher = {"y": rng.standard_normal((BATCH, 4)), "z": rng.standard_normal((BATCH, 3))}
    fed = loss_feeds(targets, teacher, SHARED, BATCH, {"z": 1.5})
    assert_right(graph, {"x": images(BATCH), **tensors, **fed})


def test_two_targets_of_one_value_are_distilled_together():
    """As in a model that gives both its scores and their softmax."""
    body = "f = Flatten (x) y = Gemm <transB = 1> (f, w1, b1)"
    tensors = draw(0, w1=(4, 192), b1=(4,))
    targets = [CLASSES, Target("probabilities", "y", "classes")]
    model = freeze_batch(working_model(body, tensors), BATCH)
    graph = build_gradient_graph(model, list(tensors), append_loss(model, targets))
    teacher = {"y": np.random.default_rng(0).standard_normal((BATCH, 4))}
    fed = loss_feeds(targets, teacher, SHARED, BATCH, {})
    assert_right(graph, {"x": images(BATCH), **tensors, **fed})


@pytest.mark.parametrize("scores", [0.0, 1e-3, 1.0, 90.0, -90.0, 3e4])
def test_the_loss_of_probabilities_is_right_for_any_scores(scores: float):
    body = "f = Flatten (x) y = Gemm <transB = 1> (f, w1, b1)"
    tensors = {"w1": np.zeros((4, 192), np.float32), "b1": np.full(4, scores, np.float32)}
    target = Target("y", "y", "probability")
    graph = differentiated(body, tensors, target)
    teacher = {"y": np.array([[-2.0, 0.0, 2.0, 50.0]] * BATCH)}
    fed = loss_feeds([target], teacher, SHARED, BATCH, {})
    loss, gradients, _ = GradientSession(graph).run({"x": images(BATCH), **tensors, **fed})
    p = 1 / (1 + np.exp(-teacher["y"][0]))
    assert loss == pytest.approx((np.logaddexp(0, scores) - p * scores).mean(), rel=1e-4, abs=1e-6)
    expected = (0.5 * (1 + np.tanh(scores / 2)) - p) / 4
    np.testing.assert_allclose(gradients["b1"], expected, rtol=1e-4, atol=1e-6)


# The rewrites of gradients

CONVOLUTIONS = {
    "plain": ((6, 4, 3, 3), "pads = [1,1,1,1]"),
    "no padding": ((6, 4, 3, 3), "pads = [0,0,0,0]"),
    "pointwise": ((6, 4, 1, 1), "group = 1"),
    "even kernel": ((6, 4, 2, 4), "pads = [0,1,1,2]"),
    "groups": ((6, 2, 3, 3), "group = 2, pads = [1,1,1,1]"),
    "groups of more outputs": ((8, 2, 3, 3), "group = 2"),
    "depthwise": ((4, 1, 3, 3), "group = 4, pads = [1,1,1,1]"),
    "depthwise with multiplier": ((8, 1, 3, 3), "group = 4, pads = [1,1,1,1]"),
    "dilation": ((6, 4, 3, 3), "dilations = [2,3], pads = [2,3,2,3]"),
    "asymmetric pads": ((6, 4, 3, 3), "pads = [0,1,2,0]"),
    "pads beyond the kernel": ((6, 4, 2, 2), "pads = [2,2,2,2]"),
    "stride 2": ((6, 4, 3, 3), "strides = [2,2], pads = [1,1,1,1]"),
    "stride 2 pointwise": ((6, 4, 1, 1), "strides = [2,2]"),
    "one dimension": ((6, 4, 5), "pads = [2,1], dilations = [1]"),
    "one dimension, stride 2": ((6, 4, 5), "pads = [2,1], strides = [2]"),
    "three dimensions": ((6, 4, 3, 2, 1), "pads = [1,0,0,1,1,0]"),
    "three dimensions, groups": ((6, 2, 2, 2, 2), "group = 2"),
    "valid padding": ((6, 4, 3, 3), 'auto_pad = "VALID"'),
    "same padding": ((6, 4, 3, 3), 'auto_pad = "SAME_UPPER"'),
    "without attributes": ((6, 4, 3, 3), ""),
}
UNIT_STRIDE = [name for name in CONVOLUTIONS if "stride" not in name and "beyond" not in name]


def convolution_case(name: str) -> tuple[str, dict[str, np.ndarray], str, np.ndarray]:
    """Return a convolution between two others, so that all its gradients are asked for."""
    filters, attributes = CONVOLUTIONS[name]
    rank = len(filters) - 2
    tensors = draw(
        2, w0=(4, 3, *[1] * rank), w=filters, b=(filters[0],), w9=(4, filters[0], *[1] * rank)
    )
    body = f"""
        c0 = Conv (x, w0)
        r0 = Relu (c0)
        c = Conv {f"<{attributes}>" if attributes else ""} (r0, w, b)
        r = Relu (c)
        d = Conv (r, w9)
        p = GlobalAveragePool (d)
        y = Flatten (p)"""
    size = {1: (64,), 2: (8, 8), 3: (4, 4, 4)}[rank]
    x = images(BATCH).reshape(BATCH, 3, *size)
    signature = f"float[N,3,{','.join(map(str, size))}] x => float[N,4] y"
    return body, tensors, signature, x


def kernels(graph: GradientGraph) -> list[onnx.NodeProto]:
    return list(onnx.load_model_from_string(graph.model).graph.node)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_rewritten_gradients_equal_the_runtimes_own(name: str, monkeypatch: pytest.MonkeyPatch):
    body, tensors, signature, x = convolution_case(name)
    feeds = {"x": x, **tensors, **taught(CLASSES, (BATCH, 4))}
    rewritten = differentiated(body, tensors, CLASSES, signature)
    monkeypatch.setattr(ort, "simplify_gradients", lambda model: None)
    own = differentiated(body, tensors, CLASSES, signature)
    assert any(node.op_type == "ReluGrad" for node in kernels(own))
    assert not any(node.op_type == "ReluGrad" for node in kernels(rewritten))
    loss, gradients, _ = GradientSession(rewritten).run(feeds)
    own_loss, own_gradients, _ = GradientSession(own).run(feeds)
    assert loss == pytest.approx(own_loss, rel=1e-6)
    assert gradients.keys() == own_gradients.keys() == tensors.keys()
    for key, gradient in gradients.items():
        scale = np.abs(own_gradients[key]).max()
        np.testing.assert_allclose(gradient, own_gradients[key], atol=1e-5 * scale, err_msg=key)


@pytest.mark.parametrize("name", UNIT_STRIDE)
def test_the_gradient_by_the_input_is_a_convolution_where_the_stride_is_one(name: str):
    body, tensors, signature, _ = convolution_case(name)
    graph = differentiated(body, tensors, CLASSES, signature)
    grads = [node for node in kernels(graph) if node.op_type == "ConvGrad"]
    assert len(grads) == 3
    assert not any(node.output[0] for node in grads)


@pytest.mark.parametrize("name", ["plain", "depthwise", "stride 2", "dilation", "three dimensions"])
def test_gradients_of_convolutions_are_right(name: str):
    body, tensors, signature, x = convolution_case(name)
    graph = differentiated(body, tensors, CLASSES, signature)
    assert_right(graph, {"x": x, **tensors, **taught(CLASSES, (BATCH, 4))})


def test_a_frozen_filter_passes_gradients_on():
    body, tensors, signature, x = convolution_case("plain")
    model = bind(working_model(body, tensors, signature), {"w": tensors.pop("w")})
    model = freeze_batch(model, BATCH)
    make_differentiable(model)
    graph = build_gradient_graph(model, list(tensors), append_loss(model, [CLASSES]))
    assert set(graph.parameters) == set(tensors)
    assert_right(graph, {"x": x, **tensors, **taught(CLASSES, (BATCH, 4))})


def test_a_relu_that_feeds_many_and_one_behind_another_have_right_gradients():
    body = """
        c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r1 = Relu (c1)
        r2 = Relu (r1)
        c2 = Conv <pads = [1,1,1,1]> (r2, w2, b2)
        r3 = Relu (c2)
        a = Add (r3, r1)
        m = Mul (a, r3)
        p = GlobalAveragePool (m)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, w3, b3)"""
    tensors = draw(0, w1=(8, 3, 3, 3), b1=(8,), w2=(8, 8, 3, 3), b2=(8,), w3=(4, 8), b3=(4,))
    graph = differentiated(body, tensors)
    assert_right(graph, {"x": images(BATCH), **tensors, **taught(CLASSES, (BATCH, 4))})


@pytest.mark.parametrize("given", ["the activation", "what enters it"])
def test_the_gradient_of_relu_is_the_same_from_the_activation_and_from_what_enters(given: str):
    shape = [3, 5]
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    kept = "y" if given == "the activation" else "x"
    nodes.append(helper.make_node("ReluGrad", ["g", kept], ["dx"], domain="com.microsoft"))
    floats = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xgy"}
    out = helper.make_tensor_value_info("dx", TensorProto.FLOAT, shape)
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [floats["x"], floats["g"]], [floats["y"], out]),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )
    model = ir.from_proto(proto)
    simplify_gradients(model)
    assert [value.name for value in model.graph.outputs] == ["y", "dx"]
    assert "ReluGrad" not in [node.op_type for node in model.graph]
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, *shape)).astype(np.float32)
    x[0] = [0.0, -0.0, 1e-30, -1e-30, 3e38]
    for content in (serialize(model), proto.SerializeToString()):
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        _, dx = session.run(None, {"x": x, "g": g})
        np.testing.assert_array_equal(dx, np.where(x > 0, g, 0))
