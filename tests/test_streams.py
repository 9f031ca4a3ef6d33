"""Linear streams are found where channels may be mixed; mixed, the model computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from bottlenecks import (
    BOTTLENECKS,
    NORMALIZED,
    bottleneck_tensors,
    normalized_tensors,
    orthogonal,
)
from hypothesis import given
from hypothesis import strategies as st
from small_networks import draw, images, network, outputs

from onnx_unipts.graph.model import read_tensors, serialize, write_tensors
from onnx_unipts.graph.streams import Stream, find_streams, mixed


def joined(text: str) -> str:
    """Return `BOTTLENECKS` with ``text`` where s1 and s2 become s3."""
    return BOTTLENECKS.replace("s3 = Add (s1, s2)", text)


def model_of(text: str = BOTTLENECKS, **changed: np.ndarray) -> ir.Model:
    used = {n: t for n, t in (normalized_tensors() | changed).items() if n in text}
    return ir.from_proto(network(text, used))


def turned(model: ir.Model, stream: Stream, seed: int = 0) -> ir.Model:
    """Return ``model`` with ``stream`` in a random basis."""
    copy = model.clone()
    rotation = orthogonal(stream.width, seed)
    tensors = {k: t.astype(np.float64) for k, t in read_tensors(model, stream.keys).items()}
    write_tensors(copy, mixed(stream, tensors, rotation))
    return copy


def difference(one: ir.Model, other: ir.Model) -> float:
    feeds = {"x": images(8)}
    (a,), (b,) = (outputs(serialize(model), feeds) for model in (one, other))
    return float(np.abs(a - b).max() / np.abs(a).max())


def test_what_is_added_up_between_convolutions_is_one_stream():
    (stream,) = find_streams(model_of())
    assert stream.width == 6
    assert [writer.filter for writer in stream.writers] == ["p1", "p2"]
    assert [writer.bias for writer in stream.writers] == ["b1", None]
    assert stream.readers == ("e1", "e2")
    assert not stream.normalized


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (BOTTLENECKS, {}),
        (NORMALIZED, {}),
        (BOTTLENECKS.replace("Add (s1, s2)", "Sub (s1, s2)"), {}),
        (BOTTLENECKS.replace("Add (s1, s2)", "Sum (s1, s2, s1)"), {}),
        (joined("t = Identity (s2) s3 = Add (t, s1)"), {}),
        (
            joined(
                "t = AveragePool <kernel_shape = [2,2], pads = [1,1,1,1]> (s2) "
                'u = Resize <mode = "linear"> (t, , scales) s3 = Add (u, s1)',
            ),
            {"scales": np.array([1, 1, 0.9, 0.9], np.float32)},
        ),
        (joined("t = Neg (s2) u = Dropout (t) s3 = Add (u, s1)"), {}),
        (joined("h = Shape (s2) t = Identity (s2) s3 = Add (t, s1)"), {}),
        (
            BOTTLENECKS.replace("(s3, e2)", "<pads = [1,1,1,1]> (s3, e2)"),
            draw(1, e2=(18, 6, 3, 3)),
        ),
    ],
    ids=[
        "added",
        "normalised",
        "subtracted",
        "summed",
        "passed on",
        "resized",
        "negated",
        "measured",
        "3x3, padded",
    ],
)
def test_the_model_computes_the_same_in_another_basis(text: str, changed: dict[str, np.ndarray]):
    model = model_of(text, **changed)
    (stream,) = find_streams(model)
    copy = turned(model, stream)
    before, after = (read_tensors(m, ["p1"])["p1"] for m in (model, copy))
    assert np.abs(before - after).max() > 0.1
    assert difference(model, copy) < 1e-5


@given(seed=st.integers(0, 2**16))
def test_a_normalised_stream_is_the_same_in_any_basis(seed: int):
    model = model_of(NORMALIZED)
    (stream,) = find_streams(model)
    assert stream.normalized
    assert difference(model, turned(model, stream, seed)) < 1e-5


@pytest.mark.parametrize(
    "text",
    [
        joined("t = Add (s1, s2) s3 = Relu (t)"),
        joined("t = MaxPool <kernel_shape = [1,1]> (s2) "
            "s3 = Add (s1, t)"),
        joined("t = Add (s1, shared) s3 = Add (t, s2)"),
        BOTTLENECKS.replace("=> (float[N,4] y)", "=> (float[N,4] y, float[N,6,8,8] s3)"),
        BOTTLENECKS.replace("Conv (s1, e1)", "Conv <group = 2> (s1, half)"),
        BOTTLENECKS.replace("Conv (d1, p2)", "Conv (d1, p2, b1)"),
        BOTTLENECKS.replace("Conv (s3, e2)", "Conv (s3, e1)"),
        joined("t = Add (s1, s2) u = Conv (t, square) s3 = Add (t, u)"),
        joined("t = Resize (s2, , wide) s3 = Add (t, s1)"),
        joined("t = Resize <coordinate_transformation_mode = \"tf_crop_and_resize\"> "
            "(s2, roi, one) s3 = Add (t, s1)"),
        joined("t = Resize (s2, , , sizes) s3 = Add (t, s1)"),
        joined("t, mask = Dropout (s2) m = Cast <to = 1> (mask) s3 = Add (t, s1)"),
        NORMALIZED.replace("s1 = Batch", "s1, m, v = Batch"),
        joined("s3 = If <then_branch = a () => (float[N,6,8,8] o)"
            " { o = Add (s1, s2) }, else_branch = b () => (float[N,6,8,8] o) { o = Neg (s2) }>"
            " (yes)"),
        NORMALIZED.replace("(d1, p2)", "(d1, p2, n_b)"),
    ],
    ids=[
        "cut off", "maximum", "a constant", "an output", "grouped", "a bias shared",
        "a filter shared", "on both sides", "channels made", "values made up", "of unknown size",
        "a mask used", "of statistics of batches",
        "in a subgraph", "a normalisation's tensor shared",
    ],
)  # fmt: skip
def test_what_treats_channels_unlike_each_other_is_no_stream(text: str):
    shared = bottleneck_tensors()["b1"][None, :, None, None]
    model = model_of(
        text,
        shared=shared,
        half=bottleneck_tensors()["e1"][:, :3],
        square=bottleneck_tensors()["e1"][:6],
        yes=np.array(True),
        wide=np.array([1, 2, 1, 1], np.float32),
        one=np.ones(4, np.float32),
        roi=np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
        sizes=np.array([1, 6, 8, 8]),
    )
    assert find_streams(model) == []


def test_weights_of_bytes_and_grouped_writers_are_no_streams():
    assert find_streams(model_of(BOTTLENECKS.replace("(r0, p1, b1)", "<group = 2> (r0, p1, b1)"),
        p1=bottleneck_tensors()["p1"][:, :6])) == []  # fmt: skip


def test_values_of_other_ranks_are_added_up_along_other_axes():
    text = BOTTLENECKS.replace("float[N,3,8,8] x", "float[N,3,8,8] x, float[6,12,8] z")
    text = text.replace("s3 = Add (s1, s2)", "l = Conv (z, p3) t = Add (s1, l) s3 = Add (t, s2)")
    model = model_of(text, p3=bottleneck_tensors()["p1"][..., 0])
    assert find_streams(model) == []


def test_initializers_that_are_inputs_too_are_rotated_like_others():
    used = {n: t for n, t in bottleneck_tensors().items() if n in BOTTLENECKS}
    proto = network(BOTTLENECKS, used)
    for name, tensor in used.items():
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, 1, tensor.shape))
    (stream,) = find_streams(ir.from_proto(proto))
    assert stream.readers == ("e1", "e2")


def test_a_normalisation_of_every_pixel_is_not_one_of_channels():
    used = {n: t for n, t in normalized_tensors().items() if n in NORMALIZED}
    pixels = {n: np.ones((6, 8, 8), np.float32) for n in ("n_s", "n_b", "n_m", "n_v")}
    text = NORMALIZED.replace("<epsilon = 0.01>", "<epsilon = 0.01, spatial = 0>")
    assert find_streams(ir.from_proto(network(text, used | pixels, opset=8))) == []
