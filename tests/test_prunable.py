"""Finding prunable weights: in every form that real files and awkward ones hold them in."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from onnx_unipts.graph.basis import describe_basis
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import from_proto, load_model, read_tensors
from onnx_unipts.graph.prunable import PrunableWeight, find_prunable

SHARED = Path(__file__).parents[2] / "shared" / "models"
EXPECTED = SHARED / "expected.json"
EXPECTATIONS = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}

# The filter banks of gtcrn stand in its simplified twin, too.
BASES = {("real/gtcrn_simple.onnx", f":onnx::MatMul_{number}") for number in (3414, 3932)}


def find(text: str, **options) -> dict[str, PrunableWeight]:
    """Parse a model in ONNX's text form, behind the usual header, and find its weights by key."""
    header = '<ir_version: 8, opset_import: ["" : 17, "loc" : 1]>\n'
    model = from_proto(parser.parse_model(header + text))
    return {weight.key: weight for weight in find_prunable(model, **options)}


def initializer(name: str, *shape: int) -> str:
    """Return the text of a float initializer with random values."""
    rng = np.random.default_rng(0)
    values = ", ".join(f"{x:.3f}" for x in rng.standard_normal(int(np.prod(shape))))
    return f"float[{','.join(map(str, shape))}] {name} = {{{values}}}"


# Against the files


@pytest.mark.skipif(not EXPECTATIONS, reason="needs the shared models")
@pytest.mark.parametrize("name", EXPECTATIONS)
def test_every_weight_of_a_file_is_found_and_nothing_else(name):
    expected = {}
    for weight in EXPECTATIONS[name]["weights"]:
        expected.setdefault(weight["store"], []).append(weight)
    found = {f"{w.scope}:{w.name}": w for w in find_prunable(load_model(SHARED / name))}
    assert found.keys() == expected.keys()
    for store, uses in expected.items():
        weight, first = found[store], uses[0]
        basis = "basis?" in first["flags"] or (name, store) in BASES
        assert weight.pruned == (first["verdict"] == "yes" and not basis), store
        assert bool(weight.reason) != weight.pruned
        assert weight.trainable is None
        if first["verdict"] == "computed":
            continue
        assert weight.shape == tuple(first["shape"])
        assert weight.dtype == first["dtype"]
        assert weight.count == np.prod(weight.shape)
        assert weight.chain == tuple(first["chain"])
        nodes = {use["node"].removeprefix(":") for entry in uses for use in entry["uses"]}
        assert set(weight.nodes) == nodes
        # The file gives the axis of the operand; it is the stored one where nothing is between.
        if first["verdict"] not in ("no", "computed") and not first["chain"]:
            assert weight.out_axis == first["out_axis"]


@pytest.mark.skipif(not EXPECTATIONS, reason="needs the shared models")
@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        ("quantised", "quantised"),
        ("recurrent", "recurrent"),
        ("computed", "computed by"),
    ],
)
def test_what_is_not_pruned_says_why(verdict, reason):
    checked = 0
    for name, entry in EXPECTATIONS.items():
        stores = {w["store"] for w in entry["weights"] if w["verdict"] == verdict}
        if not stores:
            continue
        for weight in find_prunable(load_model(SHARED / name)):
            if f"{weight.scope}:{weight.name}" in stores:
                assert weight.reason.startswith(reason)
                checked += 1
    assert checked


# Operators


@pytest.mark.parametrize(
    ("node", "shape", "axes"),
    [
        ("Conv(x, w)", (6, 4, 3, 3), (0, 1)),
        ("Conv <group = 4> (x, w)", (4, 1, 3, 3), (0, 1)),
        ("ConvTranspose <group = 2> (x, w)", (4, 3, 2, 2), (1, 0)),
    ],
)
def test_convolutions(node, shape, axes):
    text = f"g (float[n,4,8,8] x) => (float[a,b,c,d] y) <{initializer('w', *shape)}> {{y = {node}}}"
    (weight,) = find(text).values()
    assert weight.pruned
    assert (weight.out_axis, weight.in_axis) == axes


@pytest.mark.parametrize(
    ("node", "axes"),
    [
        ("Gemm(x, w)", (1, 0)),
        ("Gemm <transB = 1, alpha = 2.0> (x, w)", (0, 1)),
        ("Gemm(w, x)", (0, 1)),
        ("Gemm <transA = 1> (w, x)", (1, 0)),
        ("MatMul(x, w)", (1, 0)),
        ("MatMul(w, x)", (0, 1)),
    ],
)
def test_linear_operators_on_either_side(node, axes):
    text = f"g (float[a,b] x) => (float[c,d] y) <{initializer('w', 8, 8)}> {{y = {node}}}"
    (weight,) = find(text).values()
    assert weight.pruned
    assert (weight.out_axis, weight.in_axis) == axes


def test_a_batched_matmul_has_its_channels_last():
    text = (
        f"g (float[3,n,5] x) => (float[3,n,4] y) <{initializer('w', 3, 5, 4)}> {{y = MatMul(x, w)}}"
    )
    (weight,) = find(text).values()
    assert (weight.out_axis, weight.in_axis) == (2, 1)


def test_recurrent_weights_are_pruned_by_choice():
    text = (
        f"g (float[s,n,4] x) => (float[s,1,n,8] y) "
        f"<{initializer('w', 1, 24, 4)}, {initializer('r', 1, 24, 8)}>"
        "{y, h = GRU <hidden_size = 8> (x, w, r)}"
    )
    for options in ({}, {"exclude": ["w", "r"]}):
        assert [w.reason for w in find(text, **options).values()] == [
            "recurrent weight; pruned only by choice"
        ] * 2
    chosen = find(text, include=["recurrent"])
    assert [(w.pruned, w.out_axis, w.in_axis) for w in chosen.values()] == [(True, 1, 2)] * 2
    with pytest.raises(UsageError, match="known: optional, quantised, recurrent"):
        find(text, include=["recurent"])


@pytest.mark.parametrize(
    ("signature", "stored", "node", "reason"),
    [
        (
            "(float[n,2,8,8] x) => (float[n,1,8,8] y)",
            "float[1,2,1,1] w = {1, 2}",
            "NhwcFusedConv(x, w)",
            "",
        ),
        (
            "(uint8[n,2,8,8] x) => (uint8[n,1,8,8] y)",
            "int8[1,2,1,1] w = {1, 2}, float s = {0.1}, uint8 z = {0}, int8 i = {0}",
            "QLinearConv(x, s, z, w, s, i, s, z)",
            "quantised",
        ),
    ],
)
def test_convolutions_of_onnxruntime(signature, stored, node, reason):
    (weight,) = find(f"g {signature} <{stored}> {{y = com.microsoft.{node}}}").values()
    assert weight.pruned != bool(reason)
    assert weight.reason.startswith(reason)
    assert (weight.out_axis, weight.in_axis) == (0, 1)


@pytest.mark.parametrize(
    ("signature", "stored", "node", "axes"),
    [
        (
            "(uint8[n,4] x) => (uint8[n,6] y)",
            f"uint8[4,6] w = {{{', '.join('1' * 24)}}}, float s = {{0.1}}, uint8 z = {{0}}",
            "com.microsoft.QGemm(x, s, z, w, s, z)",
            (1, 0),
        ),
        (
            "(float[n,5,4] x) => (float[n,5,4] y)",
            initializer("w", 4, 12),
            "com.microsoft.Attention <num_heads = 2> (x, w)",
            (1, 0),
        ),
        (
            "(float[n,4,8,8] x, float[n,18,8,8] o) => (float[n,6,8,8] y)",
            initializer("w", 6, 4, 3, 3),
            "DeformConv <pads = [1,1,1,1]> (x, w, o)",
            (0, 1),
        ),
    ],
    ids=["QGemm", "Attention", "DeformConv"],
)
def test_axes_of_what_is_pruned_by_choice(signature, stored, node, axes):
    found = find(f"g {signature} <{stored}> {{y = {node}}}", include=["quantised", "optional"])
    assert found["w"].pruned
    assert (found["w"].out_axis, found["w"].in_axis) == axes


@pytest.mark.parametrize(
    ("signature", "stored", "node", "zero"),
    [
        (
            "(uint8[n,2,8,8] x) => (uint8[n,1,8,8] y)",
            "uint8[1,2,1,1] w = {1, 2}, uint8 own = {3}",
            "QLinearConv(x, s, z, w, s, own, s, z)",
            3,
        ),
        (
            "(uint8[n,2,8,8] x) => (uint8[n,1,8,8] y)",
            "int8[1,2,1,1] w = {1, 2}, int8 own = {-3}",
            "QLinearConv(x, s, z, w, s, own, s, z)",
            -3,
        ),
        (
            "(uint8[n,2,8,8] x) => (int32[n,1,8,8] y)",
            "uint8[1,2,1,1] w = {1, 2}",
            "ConvInteger(x, w)",
            0,
        ),
        (
            "(uint8[2,n] x) => (uint8[2,n] y)",
            "uint8[2,2] w = {1, 2, 3, 4}, uint8 own = {5}",
            "QLinearMatMul(w, s, own, x, s, z, s, z)",
            5,
        ),
        (
            "(uint8[2,n] x) => (int32[2,n] y)",
            "uint8[2,2] w = {1, 2, 3, 4}, uint8 own = {5}",
            "MatMulInteger(w, x, own, z)",
            5,
        ),
    ],
)
def test_integers_are_pruned_to_their_own_zero_point(signature, stored, node, zero):
    others = "float s = {0.1}, uint8 z = {7}"
    text = f"g {signature} <{stored}, {others}> {{y = {node}}}"
    (weight,) = find(text, include=["quantised"]).values()
    assert (weight.pruned, weight.zero, weight.reason) == (True, zero, "")
    assert (weight.out_axis, weight.in_axis) == (0, 1)


def test_integers_with_a_zero_point_for_each_channel_are_not_pruned():
    text = (
        "g (uint8[n,2,8,8] x) => (uint8[n,2,8,8] y) <uint8[2,2,1,1] w = {1, 2, 3, 4}, "
        "float s = {0.1}, float[2] t = {0.1, 0.2}, uint8[2] own = {3, 4}, uint8 z = {7}>"
        "{y = QLinearConv(x, s, z, w, t, own, s, z)}"
    )
    (weight,) = find(text, include=["quantised"]).values()
    assert not weight.pruned
    assert weight.reason == "quantised: stored as integers, not as bytes with one zero point"


def test_floats_of_eight_bits_are_not_pruned():
    model = parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 19]> g (float[n,4] x) => (float[n,6] y) '
        "<float s = {0.1}> {t = DequantizeLinear(w, s) y = MatMul(x, t)}"
    )
    kind, raw = onnx.TensorProto.FLOAT8E4M3FN, bytes(range(24))
    model.graph.initializer.append(onnx.helper.make_tensor("w", kind, (4, 6), raw, raw=True))
    (weight,) = find_prunable(from_proto(model))
    assert (weight.pruned, weight.reason) == (False, "quantised: stored as integers")


# Chains


@pytest.mark.parametrize(
    ("chain", "shape", "axes"),
    [
        ("t = Transpose(w)", (6, 4), (0, 1)),
        ("i = Identity(w) t = Transpose <perm = [1, 0]> (i)", (6, 4), (0, 1)),
        ("t = Squeeze(w)", (1, 4, 6), (2, 1)),
        ("a = Constant <value_ints = [0]> () t = Squeeze(w, a)", (1, 4, 6), (2, 1)),
        ("a = Constant <value_ints = [-1]> () t = Squeeze(w, a)", (4, 6, 1), (1, 0)),
        ("t = Flatten(w)", (4, 6, 1), (1, 0)),
        ("t = Flatten <axis = 2> (w)", (2, 2, 6), (2, None)),
        ("s = Constant <value_ints = [0, -1]> () t = Reshape(w, s)", (4, 6), (1, 0)),
        ("s = Constant <value_ints = [4, 6]> () t = Reshape(w, s)", (24,), (None, None)),
        ("c = Cast <to = 10> (w) t = Cast <to = 1> (c)", (4, 6), (1, 0)),
    ],
)
def test_axes_are_those_of_the_stored_shape(chain, shape, axes):
    stored = initializer("w", *shape)
    text = f"g (float[n,4] x) => (float[n,6] y) <{stored}> {{{chain} y = MatMul(x, t)}}"
    (weight,) = find(text).values()
    assert weight.pruned
    assert weight.shape == shape
    assert (weight.out_axis, weight.in_axis) == axes
    assert weight.chain == tuple(
        word for word in chain.replace("(", " ").split() if word[0].isupper() and word != "Constant"
    )


@pytest.mark.parametrize("added", ["2, 3", "-1, -2"])
def test_a_matrix_that_becomes_filters_keeps_its_axes(added):
    text = (
        f"g (float[n,4,8,8] x) => (float[n,6,8,8] y) <{initializer('w', 6, 4)}>"
        f"{{a = Constant <value_ints = [{added}]> () t = Unsqueeze(w, a) y = Conv(x, t)}}"
    )
    (weight,) = find(text).values()
    assert weight.pruned
    assert (weight.out_axis, weight.in_axis) == (0, 1)


@given(st.permutations(range(4)), st.permutations(range(4)))
@settings(max_examples=30, deadline=None)
def test_axes_follow_any_transposes(first, second):
    sizes = np.array([2, 3, 5, 7])
    stored = np.empty(4, int)
    # The operand has axes (0, 1, 2, 3) of sizes 2, 3, 5, 7; walk back to what is stored.
    for axis, origin in enumerate(np.array(first)[list(second)]):
        stored[origin] = sizes[axis]
    text = (
        f"g (float[n,3,9,9] x) => (float[a,b,c,d] y) <{initializer('w', *stored)}>"
        f"{{t = Transpose <perm = {list(first)}> (w) u = Transpose <perm = {list(second)}> (t)"
        "y = Conv(x, u)}"
    )
    (weight,) = find(text).values()
    assert weight.shape[weight.out_axis] == 2
    assert weight.shape[weight.in_axis] == 3


def test_a_weight_behind_other_operators_is_computed():
    text = (
        f"g (float[n,4] x) => (float[n,6] y) <{initializer('w', 4, 6)}, {initializer('s', 1)}>"
        "{v = Mul(w, s) t = Transpose(v) u = Transpose(t) y = MatMul(x, u)}"
    )
    (weight,) = find(text).values()
    assert not weight.pruned
    assert (weight.name, weight.chain) == ("u", ("Mul", "Transpose", "Transpose"))
    assert weight.reason == "computed by Mul (node 'v'), not stored"


def test_an_operator_of_another_domain_computes_whatever_its_name():
    text = (
        f"g (float[n,4] x) => (float[n,6] y) <{initializer('w', 4, 6)}>"
        "{t = loc.Identity(w) y = MatMul(x, t)}"
    )
    (weight,) = find(text).values()
    assert not weight.pruned
    assert weight.reason == "computed by Identity (node 't'), not stored"


def test_what_depends_on_an_input_is_no_weight():
    text = (
        f"g (float[4,6] x, float[n,4] z) => (float[n,6] y) <{initializer('w', 4, 6)}>"
        "{v = Mul(w, x) y = MatMul(z, v)}"
    )
    assert not find(text)


@pytest.mark.parametrize(
    ("operator", "shape", "size"),
    [("Conv", (6, 4, 3, 3), 6), ("ConvTranspose", (4, 6, 3, 3), 10)],
)
def test_a_convolution_of_constant_data_is_left_alone(operator, shape, size):
    text = (
        f"g (float[n,6,{size},{size}] x) => (float[n,6,{size},{size}] y) "
        f"<{initializer('c', 1, 4, 8, 8)}, {initializer('w', *shape)}>"
        f"{{v = {operator}(c, w) y = Add(x, v)}}"
    )
    assert find(text)["w"].reason == "fed by constant data"


def test_an_empty_weight_is_not_pruned():
    text = "g (float[n,0] x) => (float[n,3] y) <float[0,3] w = {}> {y = MatMul(x, w)}"
    (weight,) = find(text).values()
    assert (weight.pruned, weight.reason) == (False, "holds no elements")


def test_generated_weights_are_no_weights():
    text = (
        "g (float[n,4] x) => (float[n,6] y) <int64[2] s = {4, 6}>"
        "{w = ConstantOfShape(s) y = MatMul(x, w)}"
    )
    (weight,) = find(text).values()
    assert (weight.name, weight.shape, weight.dtype) == ("w", (4, 6), "FLOAT")
    assert weight.reason.startswith("generated by ConstantOfShape")


# Sharing and scopes


def test_a_shared_weight_is_listed_once_with_all_its_nodes():
    text = (
        f"g (float[n,6] x) => (float[n,6] y) <{initializer('w', 6, 6)}>"
        "{a = MatMul(x, w) t = Transpose(w) b = MatMul(a, t) y = Gemm(b, w)}"
    )
    (weight,) = find(text).values()
    assert weight.nodes == ("a", "b", "y")
    assert (weight.operator, weight.chain) == ("MatMul", ())


def test_a_weight_with_one_use_that_allows_it_is_pruned():
    text = (
        f"g (float[n,6] x) => (float[n,6] y, float[6,6] z) <{initializer('w', 6, 6)}>"
        "{z = Einsum <equation = 'ij,jk->ik'> (x, w) y = MatMul(x, w)}"
    ).replace("'", '"')
    (weight,) = find(text).values()
    assert weight.pruned
    assert weight.nodes == ("z", "y")


def test_weights_of_loops_that_carry_them_and_of_functions_that_are_handed_them():
    text = (
        f"g (float[n,6] x) => (float[n,6] y) <{initializer('w', 6, 6)}, {initializer('v', 6, 6)}, "
        "int64 three = {3}, bool yes = {1}>"
        "{a, w2 = Loop(three, yes, x, w) <body = b (int64 i, bool c, float[n,6] h, float[6,6] k)"
        " => (bool c2, float[n,6] h2, float[6,6] k2)"
        "{c2 = Identity(c) h2 = MatMul(h, k) k2 = Identity(k)}>"
        "y = loc.Dense(a, v)}"
        '<domain: "loc", opset_import: ["" : 17]> Dense (p, q) => (r) {r = MatMul(p, q)}'
    )
    weights = find(text)
    assert set(weights) == {"w", "v"}
    assert all(weight.pruned for weight in weights.values())
    assert weights["w"].nodes == ("/a.body:h2",)
    assert weights["v"].nodes == ("fn:loc.Dense:r",)


def test_a_state_that_a_loop_changes_is_no_weight():
    text = (
        f"g (float[n,6] x) => (float[n,6] y) <{initializer('w', 6, 6)}, "
        "int64 three = {3}, bool yes = {1}>"
        "{y, w2 = Loop(three, yes, x, w) <body = b (int64 i, bool c, float[n,6] h, float[6,6] k)"
        " => (bool c2, float[n,6] h2, float[6,6] k2)"
        "{c2 = Identity(c) h2 = MatMul(h, k) k2 = Tanh(k)}>}"
    )
    assert not find(text)


def test_nodes_of_one_name_keep_their_scopes_apart():
    branch = "then_branch = t () => (float[n,6] o) {{ {0} o = MatMul(x, w) }}"
    constant = f"w = Constant <value = {initializer('', 6, 6).replace(' =', '')}> ()"
    one = branch.format(constant)
    text = (
        "g (float[n,6] x, bool c) => (float[n,6] a, float[n,6] b)"
        f"{{[if] a = If(c) <{one}, {one.replace('then_', 'else_')}>"
        f"[if] b = If(c) <{one}, {one.replace('then_', 'else_')}>}}"
    )
    weights = find(text)
    assert set(weights) == {
        "/if.then_branch:w",
        "/if.else_branch:w",
        "/if.then_branch#2:w",
        "/if.else_branch#2:w",
    }


def test_a_deep_graph_is_no_problem():
    steps = "".join(f"v{i + 1} = Relu(v{i})" for i in range(3000))
    text = (
        f"g (float[n,4] v0) => (float[n,6] y) <{initializer('w', 4, 6)}> {{{steps} "
        "y = MatMul(v3000, w)}"
    )
    assert find(text)["w"].pruned


# Choice


def test_excluded_weights_are_listed_and_not_pruned():
    text = (
        f"g (float[n,6] x) => (float[n,6] y) <{initializer('head.w', 6, 6)}, "
        f"{initializer('w', 6, 6)}> {{[body] a = MatMul(x, w) y = MatMul(a, head.w)}}"
    ).replace("head.w", "head_w")
    by_name = find(text, exclude=["^head"])
    assert (by_name["head_w"].pruned, by_name["w"].pruned) == (False, True)
    assert by_name["head_w"].reason == "excluded by '^head'"
    by_node = find(text, exclude=["body"])
    assert (by_node["head_w"].pruned, by_node["w"].pruned) == (True, False)
    with pytest.raises(UsageError, match="not a regular expression"):
        find(text, exclude=["("])


# Fixed bases


def fourier(length: int, window: np.ndarray) -> np.ndarray:
    """Return the rows (length + 2, length) of a short-time Fourier transform."""
    angles = 2 * np.pi * np.outer(np.arange(length // 2 + 1), np.arange(length)) / length
    return np.concatenate([np.cos(angles), -np.sin(angles)]) * window


def mel(bands: int, frequencies: int) -> np.ndarray:
    """Return triangular filters (bands, frequencies) with centres that spread out."""
    edges = np.geomspace(4, frequencies, bands + 2) - 3
    bins = np.arange(frequencies)[None]
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("operator", "array", "what"),
    [
        ("Conv", fourier(256, np.hanning(256))[:, None], "sinusoids"),
        ("Conv", fourier(512, np.ones(512))[:, None, None], "sinusoids"),
        ("ConvTranspose", fourier(128, np.hamming(128))[:, None], "sinusoids"),
        ("MatMul", fourier(400, np.hanning(400)).T, "sinusoids"),
        ("MatMul", mel(40, 257), "filter bank"),
        ("Gemm", mel(64, 513).T, "filter bank"),
        ("Conv", mel(80, 201)[:, :, None], "filter bank"),
        ("Conv", np.hanning(64)[None, None], "symmetric"),
        ("Conv", np.sinc(np.linspace(-8, 8, 65))[None, None, None], "symmetric"),
        ("ConvTranspose", np.eye(64)[:, None], "filter bank"),
    ],
)
def test_a_fixed_basis_is_recognised(operator, array, what, dtype):
    array = array.astype(dtype)
    if what == "filter bank" and operator == "ConvTranspose":
        array = array.reshape(64, 64)
    assert what in describe_basis(operator, array.shape, lambda: array)


@given(
    st.sampled_from(
        [
            ("Conv", (64, 1, 256)),
            ("Conv", (8, 1, 1, 64)),
            ("Conv", (32, 1, 31)),
            ("Conv", (64, 64, 1, 1)),
            ("MatMul", (64, 80)),
            ("MatMul", (256, 32)),
            ("Gemm", (8, 8)),
        ]
    ),
    st.sampled_from(["normal", "smooth", "sparse", "positive", "constant"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=120, deadline=None)
def test_no_other_weight_is_taken_for_a_basis(weight, kind, seed):
    operator, shape = weight
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape).astype(np.float32)
    if kind == "smooth":
        array = np.cumsum(array, axis=-1)
    elif kind == "sparse":
        array *= rng.random(shape) < 0.1
    elif kind == "positive":
        array = np.maximum(array - 1, 0)
    elif kind == "constant":
        array = np.ones_like(array)
    assert not describe_basis(operator, shape, lambda: array)


@pytest.mark.skipif(not EXPECTATIONS, reason="needs the shared models")
def test_the_front_end_of_a_voice_activity_model_is_left_alone():
    model = load_model(SHARED / "real" / "silero_vad_op18_ifless.onnx")
    left = {
        weight.key: weight.reason for weight in find_prunable(model) if "basis" in weight.reason
    }
    assert len(left) == 2
    assert all(key.endswith("stft.forward_basis_buffer") for key in left)
    assert all(array.ndim == 3 for array in read_tensors(model, left).values())


def test_the_text_models_of_this_file_are_valid():
    text = f"g (float[n,4] x) => (float[n,6] y) <{initializer('w', 4, 6)}> {{y = MatMul(x, w)}}"
    onnx.checker.check_model(
        parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>\n' + text), full_check=True
    )
