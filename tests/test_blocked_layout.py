"""Convolutions in blocked layout give what the runtime's own give, forward and backward."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_networks import draw, working_model

from onnx_unipts.graph.cleanup import freeze_batch
from onnx_unipts.graph.differentiable import make_differentiable
from onnx_unipts.targets import Target
from onnx_unipts.training import ort
from onnx_unipts.training.blocked_layout import block_size
from onnx_unipts.training.objective import Temperatures, append_loss, loss_feeds
from onnx_unipts.training.ort import GradientGraph, GradientSession, build_gradient_graph

BATCH = 16
CLASSES = Target("y", "y", "classes")
CONVOLUTIONS = {
    "same": "pads = [1,1,1,1]",
    "valid": "",
    "uneven pads": "pads = [0,1,2,0]",
    "stride": "pads = [1,1,1,1], strides = [2,2]",
    "dilation": "pads = [2,2,2,2], dilations = [2,2]",
}


def gradient_graph(attributes: str, channels: int, size: int) -> tuple[GradientGraph, dict]:
    """Return the gradient graph of three convolutions of ``channels``, and feeds for it."""
    body = f"""
        c1 = Conv <pads = [1,1,1,1]> (x, w1)
        r1 = Relu (c1)
        c2 = Conv {f"<{attributes}>" if attributes else ""} (r1, w2, b2)
        r2 = Relu (c2)
        c3 = Conv <pads = [1,1,1,1]> (r2, w3)
        p = GlobalAveragePool (c3)
        y = Flatten (p)"""
    tensors = draw(
        5,
        w1=(channels, 3, 3, 3),
        w2=(channels, channels, 3, 3),
        b2=(channels,),
        w3=(channels, channels, 3, 3),
    )
    signature = f"float[N,3,{size},{size}] x => float[N,{channels}] y"
    model = freeze_batch(working_model(body, tensors, signature), BATCH)
    make_differentiable(model)
    graph = build_gradient_graph(model, list(tensors), append_loss(model, [CLASSES]))
    rng = np.random.default_rng(6)
    x = rng.standard_normal((BATCH, 3, size, size)).astype(np.float32)
    teacher = {"y": rng.standard_normal((BATCH, channels)).astype(np.float32)}
    taught = loss_feeds([CLASSES], teacher, Temperatures(4.0, 0.25, 16.0), BATCH, {})
    return graph, {"x": x, **tensors, **taught}


def blocked(graph: GradientGraph) -> int:
    nodes = onnx.load_model_from_string(graph.model).graph.node
    return sum(n.op_type == "Conv" and n.domain == "com.microsoft.nchwc" for n in nodes)


@pytest.mark.parametrize("channels", [16, 32, 48])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_blocked_convolutions_give_the_same_loss_and_gradients(
    name: str, channels: int, monkeypatch: pytest.MonkeyPatch
):
    graph, feeds = gradient_graph(CONVOLUTIONS[name], channels, 8)
    monkeypatch.setattr(ort, "simplify_gradients", lambda model: None)
    own, _ = gradient_graph(CONVOLUTIONS[name], channels, 8)
    assert blocked(own) == 0
    if block_size() is not None:
        assert blocked(graph) >= 2
    loss, gradients, _ = GradientSession(graph).run(feeds)
    own_loss, own_gradients, _ = GradientSession(own).run(feeds)
    assert loss == pytest.approx(own_loss, rel=1e-6)
    assert gradients.keys() == own_gradients.keys() == {"w1", "w2", "b2", "w3"}
    for key, gradient in own_gradients.items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(gradients[key], gradient, atol=1e-5 * scale, err_msg=key)


def test_channels_that_fill_no_block_stay_as_they_are():
    graph, feeds = gradient_graph("pads = [1,1,1,1]", 12, 8)
    assert blocked(graph) == 0
    assert np.isfinite(GradientSession(graph).run(feeds)[0])


@pytest.mark.skipif(block_size() is None, reason="this processor has no blocked convolution")
def test_only_an_upstream_gradient_that_fits_the_cache_serves_as_filters():
    small, _ = gradient_graph("pads = [1,1,1,1]", 32, 8)
    large, _ = gradient_graph("pads = [1,1,1,1]", 32, 48)
    # forward and by the input two each; by the filters two more
    assert (blocked(small), blocked(large)) == (6, 4)
