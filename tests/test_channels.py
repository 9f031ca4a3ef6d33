"""Channels in a graph: what belongs together, what is dead, and cutting it out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import CLASSIFIER, classifier_tensors, draw, images, network, outputs, saved

from onnx_unipts import api
from onnx_unipts.graph.channels import eliminate_dead_channels, remove_channels, trace_channels
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import load_model, read_tensors, serialize, write_tensors
from onnx_unipts.graph.prunable import find_prunable

SHARED = Path(__file__).parents[2] / "shared"
RESNET44 = SHARED / "models/cifar10/resnet44_folded.onnx"
SIGNATURE = "net (float[N,3,8,8] x) => (float[N,4] y)"


def eliminated(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]], int]:
    """Return the model without dead channels, the shapes of its tensors, and how many went."""
    smaller = ir.from_proto(model)
    result = eliminate_dead_channels(smaller)
    proto = ir.to_proto(smaller)
    onnx.checker.check_model(proto, full_check=True)
    return proto, {t.name: tuple(t.dims) for t in proto.graph.initializer}, result.removed


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto, *arrays: np.ndarray) -> None:
    for x in arrays or (images(5),):
        names = [value.name for value in before.graph.input]
        ours, theirs = (outputs(model, {names[0]: x}) for model in (before, after))
        for our, their in zip(ours, theirs, strict=True):
            assert our.shape == their.shape
            np.testing.assert_allclose(their, our, atol=1e-5 * max(1.0, np.abs(our).max()))


# What passes through which operators: channels 1 and 3 of the first convolution are dead


def two_convolutions(between: str, tensors: dict[str, np.ndarray] | None = None, **extra):
    """Build a model with ``between`` from r (8 channels) to s, both float[N,8,8,8] or smaller."""
    text = f"""{SIGNATURE} {{
        c = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r = Relu (c)
        {between}
        d = Conv (s, w2, b2)
        p = GlobalAveragePool (d)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, w3, b3)
    }}"""
    drawn = draw(0, w1=(8, 3, 3, 3), b1=(8,), w2=(6, 8, 1, 1), b2=(6,), w3=(4, 6), b3=(4,))
    drawn |= tensors or {}
    return network(text, drawn, **extra)


DEAD = [1, 3]
PASSING: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "nothing": ("s = Identity (r)", {}),
    "activations": ("t = HardSwish (r) s = LeakyRelu (t)", {}),
    "a sigmoid gate": ("g = Sigmoid (r) s = Mul (r, g)", {}),
    "batch normalisation": (
        "s = BatchNormalization (r, ones, b1, b1, ones)",
        {"ones": np.ones(8, np.float32)},
    ),
    "instance normalisation": (
        "s = InstanceNormalization (r, ones, b1)",
        {"ones": np.ones(8, np.float32)},
    ),
    "pooling": (
        "t = MaxPool <kernel_shape = [2,2]> (r) s = AveragePool <kernel_shape=[2,2]> (t)",
        {},
    ),
    "padding": ("s = Pad (r, pads)", {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "resizing": (
        'e = Identity (scales) s = Resize <mode = "nearest"> (r, , e)',
        {"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "resizing to a size": (
        's = Resize <mode = "nearest"> (r, , , sizes)',
        {"sizes": np.array([5, 8, 16, 16])},
    ),
    "a vector by channel": (
        "t = Mul (r, v) s = Add (t, v)",
        {"v": np.ones((1, 8, 1, 1), np.float32)},
    ),
    "a slope by channel": ("s = PRelu (c, v)", {"v": np.full((8, 1, 1), 0.1, np.float32)}),
    "a mean over positions": ("s = ReduceMean <axes = [2,3]> (r)", {}),
    "depthwise convolution": (
        "s = Conv <group = 8, pads = [1,1,1,1]> (r, dw, b1)",
        draw(3, dw=(8, 1, 3, 3)),
    ),
    "squeeze and excitation": (
        "q = GlobalAveragePool (r) e = Conv (q, e1, f1) h = Relu (e) g = Conv (h, e2, b1) "
        "k = Sigmoid (g) s = Mul (r, k)",
        draw(4, e1=(2, 8, 1, 1), f1=(2,), e2=(8, 2, 1, 1)),
    ),
    "a transpose there and back": (
        "t = Transpose <perm = [0,2,3,1]> (r) u = Relu (t) s = Transpose <perm = [0,3,1,2]> (u)",
        {},
    ),
    "flattening and unflattening": (
        "t = Reshape (r, flat) s = Reshape (t, square)",
        {"flat": np.array([0, 512]), "square": np.array([0, 8, 8, 8])},
    ),
    "splitting and joining": (
        "a, b = Split <axis = 1> (r, sizes) s = Concat <axis = 1> (a, b)",
        {"sizes": np.array([2, 6])},
    ),
    "slicing and joining": (
        "a = Slice (r, zero, two, one) b = Slice (r, two, eight, one) s = Concat <axis = 1> (a, b)",
        {
            "zero": np.array([0]),
            "one": np.array([1]),
            "two": np.array([2]),
            "eight": np.array([2**31]),
        },
    ),
    "an extra axis": (
        "t = Unsqueeze (r, axes) u = Relu (t) s = Squeeze (u, axes)",
        {"axes": np.array([2])},
    ),
}


@pytest.mark.parametrize("name", PASSING)
def test_channels_that_nothing_reads_go_through_every_operator(name: str):
    between, extra = PASSING[name]
    drawn = draw(0, w2=(6, 8, 1, 1))
    drawn["w2"][:, DEAD] = 0
    if name == "squeeze and excitation":
        extra["e1"][:, DEAD] = 0
    model = two_convolutions(between, {**extra, **drawn})
    smaller, shapes, removed = eliminated(model)
    assert removed == len(DEAD)
    assert shapes["w1"] == (6, 3, 3, 3)
    assert shapes["b1"] == (6,)
    assert shapes["w2"] == (6, 6, 1, 1)
    assert_same(model, smaller, images(5))
    for key in ("v", "dw", "ones"):
        assert key not in extra or 6 in shapes[key]


@pytest.mark.parametrize("name", PASSING)
def test_channels_that_are_zero_go_through_every_operator_that_keeps_zero(name: str):
    between, extra = PASSING[name]
    drawn = draw(0, w1=(8, 3, 3, 3), b1=(8,))
    drawn["w1"][DEAD] = 0
    drawn["b1"][DEAD] = -0.5
    model = two_convolutions(between, {**extra, **drawn})
    smaller, shapes, _ = eliminated(model)
    assert_same(model, smaller, images(5))
    if name in ("nothing", "activations", "pooling", "padding", "splitting and joining"):
        assert shapes["w1"] == (6, 3, 3, 3)


def test_constants_are_folded_into_the_bias_where_no_padding_follows():
    tensors = draw(1, w1=(8, 3, 3, 3), b1=(8,))
    tensors["w1"][DEAD] = 0
    tensors["b1"][DEAD] = 0.7
    model = two_convolutions("s = Identity (r)", tensors)
    smaller, shapes, removed = eliminated(model)
    assert removed == 2
    assert shapes["w2"] == (6, 6, 1, 1)
    assert_same(model, smaller)


def test_constants_stay_where_zero_padding_follows():
    tensors = draw(1, w1=(8, 3, 3, 3), b1=(8,))
    tensors["w1"][DEAD] = 0
    tensors["b1"][DEAD] = 0.7
    model = two_convolutions(
        "t = Pad (r, pads) s = Relu (t)", tensors | {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    )
    _, _, removed = eliminated(model)
    assert removed == 0
    padded = network(CLASSIFIER, classifier_tensors() | tensors)
    _, _, removed = eliminated(padded)
    assert removed == 0


def test_a_consumer_without_bias_gets_one_for_the_constant():
    tensors = draw(1, w1=(8, 3, 3, 3), b1=(8,))
    tensors["w1"][DEAD] = 0
    tensors["b1"][DEAD] = 0.7
    text = f"""{SIGNATURE} {{
        c = Conv (x, w1, b1)
        r = Relu (c)
        d = Conv (r, w2)
        p = GlobalAveragePool (d)
        f = Flatten (p)
        y = MatMul (f, w3)
    }}"""
    model = network(text, tensors | draw(2, w2=(6, 8, 3, 3), w3=(6, 4)))
    smaller, shapes, removed = eliminated(model)
    assert removed == 2
    assert any(shape == (6,) for name, shape in shapes.items() if name not in ("b1", "w3"))
    assert_same(model, smaller)


# Groups over residuals, concatenations and grouped convolutions


def test_a_residual_stream_is_one_group():
    text = f"""{SIGNATURE} {{
        c = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r = Relu (c)
        d = Conv <pads = [1,1,1,1]> (r, w2)
        s = Add (d, r)
        p = GlobalAveragePool (s)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, w3, b3)
    }}"""
    tensors = draw(0, w1=(8, 3, 3, 3), b1=(8,), w2=(8, 8, 3, 3), w3=(4, 8), b3=(4,))
    tensors["w3"][:, DEAD] = 0
    model = network(text, tensors)
    assert eliminated(model)[2] == 0  # the block still reads them
    tensors["w2"][:, DEAD] = 0
    model = network(text, tensors)
    smaller, shapes, removed = eliminated(model)
    assert removed == 2
    assert shapes["w2"] == (6, 6, 3, 3)
    assert_same(model, smaller)


@pytest.mark.parametrize(("groups", "left"), [(8, 6), (4, 4), (2, 4)])
def test_grouped_convolutions_stay_whole(groups: int, left: int):
    """Four groups of two go as wholes; of two groups of four the same channels go in both."""
    text = f"""{SIGNATURE} {{
        c = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r = Relu (c)
        d = Conv <pads = [1,1,1,1], group = {groups}> (r, w2, b2)
        e = Relu (d)
        p = GlobalAveragePool (e)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, w3, b3)
    }}"""
    width = 8 // groups
    tensors = draw(0, w1=(8, 3, 3, 3), b1=(8,), w2=(8, width, 3, 3), b2=(8,), w3=(4, 8), b3=(4,))
    gone = {8: [0, 5], 4: [0, 1, 4, 5], 2: [0, 1, 4, 5]}[groups]
    tensors["w3"][:, gone] = 0
    model = network(text, tensors)
    smaller, shapes, _ = eliminated(model)
    assert shapes["w2"][0] == left
    assert shapes["w3"] == (4, left)
    assert_same(model, smaller)


def test_channels_of_a_grouped_convolution_whose_filter_is_kept_as_integers_stay():
    text = f"""{SIGNATURE} {{
        c = Conv <pads = [1,1,1,1]> (x, w1, b1)
        w = DequantizeLinear <axis = 0> (q, scale)
        d = Conv <group = 8> (c, w)
        p = GlobalAveragePool (d)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, w3, b3)
    }}"""
    tensors = draw(0, w1=(8, 3, 3, 3), b1=(8,), w3=(4, 8), b3=(4,))
    tensors |= {"q": np.ones((8, 1, 3, 3), np.int8), "scale": np.full(8, 0.5, np.float32)}
    tensors["w3"][:, DEAD] = 0
    model = network(text, tensors, opset=21, ir_version=10)
    assert eliminated(model)[2] == 0
    reasons = {why for _, why in trace_channels(ir.from_proto(model)).labels.pins}
    assert "d (Conv): the axes of its filter are not known" in reasons


def test_channels_that_reach_an_unknown_operator_or_an_output_stay():
    text = """net (float[N,3,8,8] x) => (float[N,8,8,8] r, float[N,4] y) {
        c = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r = Relu (c)
        d = Conv <pads = [1,1,1,1]> (r, w2, b2)
        l = LRN <size = 3> (d)
        p = GlobalAveragePool (l)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, w3, b3)
    }"""
    tensors = classifier_tensors()
    tensors["w2"][:, DEAD] = 0
    tensors["w3"][:, DEAD] = 0
    model = network(text, tensors)
    smaller, _, removed = eliminated(model)
    assert removed == 0
    assert smaller.graph == ir.to_proto(ir.from_proto(model)).graph
    reasons = {why for _, why in trace_channels(ir.from_proto(model)).labels.pins}
    assert any("no rule for LRN" in why for why in reasons)
    assert "output r keeps its shape" in reasons


def test_one_channel_stays_where_all_are_dead():
    tensors = classifier_tensors()
    tensors["w2"][:] = 0
    model = network(CLASSIFIER, tensors)
    smaller, shapes, removed = eliminated(model)
    assert shapes["w1"] == (1, 3, 3, 3)
    assert removed == 7 + 7
    assert_same(model, smaller)


def test_dead_channels_make_others_dead():
    """What only dead channels read is dead, too."""
    tensors = classifier_tensors()
    tensors["w3"][:, DEAD] = 0
    alive = [i for i in range(8) if i not in DEAD]
    tensors["w2"][np.ix_(alive, [5, 6])] = 0
    model = network(CLASSIFIER, tensors)
    smaller, shapes, removed = eliminated(model)
    assert removed == 4
    assert shapes["w1"] == (6, 3, 3, 3)
    assert_same(model, smaller)


@pytest.mark.parametrize(("groups", "left"), [(1, 20), (32, 32)])
def test_wide_convolutions_keep_whole_blocks(groups: int, left: int):
    """Of 32 channels 13 are dead: 20 stay, a multiple of 4, or 32, one of 16, where grouped."""
    body = f"""{SIGNATURE} {{
        c = Conv <pads = [1,1,1,1]> (x, w1, b1)
        r = Relu (c)
        d = Conv <pads = [1,1,1,1], group = {groups}> (r, w2, b2)
        e = Conv (d, w3)
        p = GlobalAveragePool (e)
        y = Flatten (p)
    }}"""
    shapes = {"w1": (32, 3, 3, 3), "b1": (32,), "w2": (32, 32 // groups, 3, 3), "b2": (32,)}
    tensors = draw(0, **shapes, w3=(4, 32, 1, 1))
    tensors["w1"][:13] = 0
    tensors["b1"][:13] = 0
    tensors["w3"][:, :13] = 0
    model = network(body, tensors)
    smaller, shapes, _ = eliminated(model)
    assert shapes["w1"][0] == shapes["w2"][0] == left
    assert_same(model, smaller)


CUT_BY_TWO_AXES = {
    "a slice": (
        "e = Slice (p, starts, ends)",
        draw(0, p=(6, 10)) | {"starts": np.array([1, 1]), "ends": np.array([5, 9])},
    ),
    "padding": ("e = Pad (p, pads)", draw(0, p=(2, 6)) | {"pads": np.array([1, 1, 1, 1])}),
}


@pytest.mark.parametrize("name", CUT_BY_TWO_AXES)
def test_stored_positions_that_are_cut_along_two_axes_shrink_along_both(name: str):
    cut, extra = CUT_BY_TWO_AXES[name]
    text = f"""net (float[N,4,3] x) => (float[N,4,4] y) {{
        h = MatMul (x, w1)
        {cut}
        s = Add (h, e)
        y = MatMul (s, w2)
    }}"""
    tensors = draw(1, w1=(3, 8), w2=(8, 4))
    tensors["w2"][DEAD] = 0
    model = network(text, extra | tensors)
    smaller, shapes, removed = eliminated(model)
    assert shapes["w2"] == (6, 4)
    assert removed >= len(DEAD)
    assert_same(model, smaller, draw(2, x=(5, 4, 3))["x"])


def test_removal_refuses_what_has_to_stay():
    trace = trace_channels(ir.from_proto(network(CLASSIFIER, classifier_tensors())))
    _, pinned = trace.channels
    with pytest.raises(ValueError, match="has to stay"):
        remove_channels(trace, [int(np.flatnonzero(pinned)[0])])
    channel, pinned = trace.channels
    with pytest.raises(ValueError, match="nothing would be left"):
        remove_channels(trace, np.unique(channel[~pinned]))


# Networks that nobody thought of


KINDS = "conv conv pointwise depthwise grouped add concat norm pool".split()  # noqa: SIM905
ACTIVATIONS = ["Relu", "Sigmoid", "HardSwish", "Identity", "Tanh"]


@st.composite
def networks(draw_: st.DrawFn) -> onnx.ModelProto:
    """Draw a network of a few layers of random kinds, with random zeros in its weights."""
    seed = draw_(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    lines: list[str] = []
    value, width = "x", 3
    known: list[tuple[str, int]] = []

    def tensor(name: str, shape: tuple[int, ...], zeros: float) -> str:
        array = rng.standard_normal(shape).astype(np.float32)
        array[rng.random(shape[0]) < zeros] = 0
        if len(shape) > 1:
            array[:, rng.random(shape[1]) < zeros] = 0
            array[rng.random(shape) < zeros] = 0
        tensors[name] = array
        return name

    zeros = draw_(st.sampled_from([0.2, 0.5, 0.8]))
    for i in range(draw_(st.integers(2, 6))):
        kind = draw_(
            st.sampled_from(
                [
                    "conv",
                    "conv",
                    "pointwise",
                    "depthwise",
                    "grouped",
                    "add",
                    "concat",
                    "norm",
                    "pool",
                ]
            )
        )
        same = [v for v, w in known if w == width and v != value]
        after = width
        if kind in ("conv", "pointwise") or (width == 3):
            after = draw_(st.sampled_from([4, 6, 8]))
            kernel = 1 if kind == "pointwise" else 3
            w = tensor(f"w{i}", (after, width, kernel, kernel), zeros)
            pads = "" if kernel == 1 else "<pads = [1,1,1,1]>"
            lines.append(f"v{i} = Conv {pads} ({value}, {w}, {tensor(f'b{i}', (after,), zeros)})")
        elif kind in ("depthwise", "grouped"):
            groups = width if kind == "depthwise" else 2
            w = tensor(f"w{i}", (width, width // groups, 3, 3), zeros)
            lines.append(f"v{i} = Conv <pads = [1,1,1,1], group = {groups}> ({value}, {w})")
        elif kind == "add" and same:
            lines.append(f"v{i} = Add ({value}, {same[0]})")
        elif kind == "concat" and known:
            lines.append(f"v{i} = Concat <axis = 1> ({value}, {known[0][0]})")
            after = width + known[0][1]
        elif kind == "norm":
            parts = [tensor(f"{part}{i}", (width,), zeros) for part in "gbm"]
            tensors[f"s{i}"] = rng.uniform(0.5, 2, width).astype(np.float32)
            lines.append(f"v{i} = BatchNormalization ({value}, {', '.join(parts)}, s{i})")
        else:
            lines.append(f"v{i} = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1]> ({value})")
        value, width = f"v{i}", after
        activation = draw_(st.sampled_from(ACTIVATIONS))
        lines.append(f"a{i} = {activation} ({value})")
        value = f"a{i}"
        known.append((value, width))
    if draw_(st.booleans()):
        lines += [f"p = GlobalAveragePool ({value})", "f = Flatten (p)"]
        size = width
    else:
        lines.append(f"f = Flatten ({value})")
        size = width * 64
    w, b = tensor("wy", (4, size), zeros), tensor("by", (4,), 0)
    lines.append(f"y = Gemm <transB = 1> (f, {w}, {b})")
    return network(f"{SIGNATURE} {{ {' '.join(lines)} }}", tensors)


@given(model=networks())
@settings(max_examples=60)
def test_any_network_computes_the_same_without_its_dead_channels(model: onnx.ModelProto):
    smaller, _, _ = eliminated(model)
    assert_same(model, smaller, images(3))
    assert eliminated(smaller)[2] == 0


@given(model=networks(), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_any_free_channels_can_be_cut_out(model: onnx.ModelProto, seed: int):
    """The result is a valid model that equals the one whose weights that read them are zero."""
    cut = ir.from_proto(model)
    trace = trace_channels(cut)
    channel, pinned = trace.channels
    free = np.unique(channel[~pinned])
    gone = np.random.default_rng(seed).permutation(free)[: len(free) // 4]
    masked = ir.from_proto(model)
    kept = ~np.isin(channel, gone)
    arrays = {}
    for value, stored in trace.stored.items():
        array = stored.numpy().copy()
        if array.ndim > 1:
            for axis, labels in enumerate(trace.axes(value)):
                shape = [1] * array.ndim
                shape[axis] = -1
                array = array * (1 if labels is None else kept[labels].reshape(shape))
            arrays[str(value.name)] = array
    write_tensors(masked, arrays)
    try:
        remove_channels(trace, gone)
    except ValueError:
        return  # nothing would be left of a tensor
    onnx.checker.check_model(ir.to_proto(cut), full_check=True)
    if not any(r.known.any() for r in trace.reads):
        assert_same(ir.to_proto(masked), ir.to_proto(cut), images(3))


# From the command to the file


PRUNED = {
    "training.epochs": 0,
    "training.adaptation": 0,
    "allocation.method": "global",
    "training.batch_size": 16,
}


def compressed(tmp_path: Path, **options) -> api.Result:
    path = saved(network(CLASSIFIER, classifier_tensors()), tmp_path)
    settings = PRUNED | options.pop("settings", {})
    options = {"format": "dense", "sparsity": 0.9} | options
    return api.compress(path, settings=settings, data={"x": images()}, jobs=1, **options)


def test_compress_removes_dead_channels_and_reports_them(tmp_path: Path):
    kept = compressed(tmp_path, output=tmp_path / "kept.onnx")
    cut = compressed(
        tmp_path,
        output=tmp_path / "cut.onnx",
        settings={"eliminate_dead_channels": True},
    )
    assert cut.output is not None
    assert kept.output is not None
    assert_same(onnx.load(kept.output), onnx.load(cut.output))
    facts, before = cut.report["dead_channels"], kept.report["dead_channels"]
    assert before["removed"] == 0
    assert before["dead"] == facts["dead"] == facts["removed"] > 0
    shapes = {t.name: list(t.dims) for t in onnx.load(cut.output).graph.initializer}
    original = {t.name: list(t.dims) for t in onnx.load(kept.output).graph.initializer}
    for tensor in facts["tensors"]:
        assert shapes[tensor["name"]] == tensor["shape_after"] != tensor["shape"]
        assert original[tensor["name"]] == tensor["shape"]
    assert cut.output.stat().st_size < kept.output.stat().st_size
    assert cut.report["sparsity"] == kept.report["sparsity"]
    assert cut.report["accuracy"] == kept.report["accuracy"]
    assert json.loads((cut.run_dir / "report.json").read_text())["dead_channels"] == facts


def test_by_default_a_few_channels_stay_and_the_zeros_in_the_file_are_those_asked_for(
    tmp_path: Path,
):
    sparse = compressed(tmp_path, format=None)
    assert sparse.output is not None
    facts = sparse.report["dead_channels"]
    assert 0 < facts["dead"] < facts["channels"] / 4
    assert facts["removed"] == 0
    counted = api.evaluate(tmp_path / "m.onnx", sparse.output, data={"x": images()}, jobs=1)
    assert counted["sparsity"]["zeros"] == sparse.report["sparsity"]["zeros"]


def test_by_default_many_channels_go_and_evaluate_counts_what_went_as_zeros(tmp_path: Path):
    sparse = compressed(tmp_path, format=None, sparsity=0.97)
    assert sparse.output is not None
    facts = sparse.report["dead_channels"]
    assert facts["removed"] >= facts["channels"] / 4
    counted = api.evaluate(tmp_path / "m.onnx", sparse.output, data={"x": images()}, jobs=1)
    assert counted["sparsity"]["weights"] == sparse.report["sparsity"]["weights"]
    assert counted["sparsity"]["zeros"] >= sparse.report["sparsity"]["zeros"]
    assert counted["fidelity"]["sparse"]["agreement"] is not None
    stored = {w["name"]: w["shape"] for w in api.inspect(sparse.output)["weights"]}
    cut = {t["name"]: t["shape_after"] for t in facts["tensors"]}
    assert all(list(shape) == cut.get(name, list(shape)) for name, shape in stored.items())
    assert any(name in cut for name in stored)


@pytest.mark.parametrize("axes", [("rows", "columns"), (None, None)], ids=["named", "open"])
def test_axes_that_the_graph_leaves_open_stay_open_where_channels_go(
    axes: tuple[str | None, ...], quick_simplification: None, tmp_path: Path
):
    text = """net (float[N,32] x) => (float[N,64] y) {
        a = Gemm (x, w1, b1) r = Relu (a) y = Gemm (r, w2, b2)
    }"""
    tensors = draw(0, w1=(32, 128), b1=(128,), w2=(128, 64), b2=(64,))
    tensors["w1"][:, :48] *= 1e-3
    tensors["w2"][:48] *= 1e-3
    model = network(text, tensors)
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, axes)
    )
    x = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    path = saved(model, tmp_path)
    sparse = api.compress(path, sparsity=0.9, settings=PRUNED, data={"x": x}, jobs=1)
    assert sparse.output is not None
    assert sparse.report["dead_channels"]["removed"] >= 48
    assert sparse.output.stat().st_size < path.stat().st_size / 4  # packed
    assert onnx.load(sparse.output).graph.output == model.graph.output


def test_patterns_that_would_fall_apart_refuse_elimination(tmp_path: Path):
    with pytest.raises(UsageError, match="would break the pattern 2:4"):
        api.compress(
            saved(network(CLASSIFIER, classifier_tensors()), tmp_path),
            settings=PRUNED | {"pattern": "2:4", "eliminate_dead_channels": True},
            data={"x": images()},
        )


# A real network


def at_global_magnitude(path: Path, sparsity: float) -> ir.Model:
    model = load_model(path)
    weights = read_tensors(model, [w.key for w in find_prunable(model) if w.pruned])
    everything = np.concatenate([np.abs(w).reshape(-1) for w in weights.values()])
    cut = np.quantile(everything, sparsity)
    write_tensors(model, {n: np.where(np.abs(w) >= cut, w, 0) for n, w in weights.items()})
    return model


def one_thread(model: ir.Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        serialize(model), options, providers=["CPUExecutionProvider"]
    )


def seconds_of(session: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray]) -> float:
    began = time.perf_counter()
    session.run(None, feeds)
    return time.perf_counter() - began


@pytest.mark.skipif(not RESNET44.is_file(), reason="the shared models are not there")
def test_resnet44_gets_faster_and_stays_the_same():
    dense = at_global_magnitude(RESNET44, 0.9)
    smaller = dense.clone()
    result = eliminate_dead_channels(smaller)
    assert result.removed > result.channels / 2
    ours, theirs = one_thread(dense), one_thread(smaller)
    name = ours.get_inputs()[0].name
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    (before,), (after,) = (session.run(None, {name: x}) for session in (ours, theirs))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())
    seconds = [[seconds_of(s, {name: x[:1]}) for s in (ours, theirs)] for _ in range(60)]
    slow, fast = np.min(seconds, axis=0)
    assert fast < 0.95 * slow
