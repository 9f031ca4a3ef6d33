"""Models of any signature are compressed: one sample at a time, tokens, states, any kind of end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from small_networks import classifier, draw, network, saved

from onnx_unipts import api
from onnx_unipts.calibration import input_signature, load_calibration_data
from onnx_unipts.evaluation import batching_for
from onnx_unipts.graph.branches import with_branches_taken
from onnx_unipts.graph.dynamic_batch import Batching, batching_of
from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.graph.lookups import compared_values, index_limits, read_sizes
from onnx_unipts.graph.model import from_proto, load_model, serialize
from onnx_unipts.progress import Quiet
from onnx_unipts.targets import choose_targets

pytestmark = pytest.mark.usefixtures("quick_simplification")

QUICK: dict[str, Any] = {"training.epochs": 1, "allocation.method": "lamp"}

LAYERS = draw(0, w1=(6, 8), b1=(8,), w2=(8, 4), b2=(4,))
VECTOR = """net (float[6] x) => (float[4] y) {
    a = MatMul (x, w1)
    b = Add (a, b1)
    r = Relu (b)
    c = MatMul (r, w2)
    y = Add (c, b2)
}"""
RECURRENT = """net (float[N,6] x, float[2,N,6] state, int64 rate)
=> (float[N,4] y, float[2,N,6] s) {
    first = Constant <value_int = 0> ()
    known = Constant <value_int = 16000> ()
    fast = Equal (rate, known)
    v = Gather <axis = 0> (state, first)
    z = Add (x, v)
    y = If (fast) <
        then_branch = fast_net () => (float[N,4] yt) {
            a = Gemm (z, w1, b1) r = Relu (a) yt = Gemm (r, w2, b2)
        },
        else_branch = slow_net () => (float[N,4] ye) {
            h = Gemm (z, w1, b1) ye = Gemm (h, w2, b2)
        }
    >
    s = Tanh (state)
}"""
TOKENS = """net (int64[1,5] ids, int64[1,5] attention_mask) => (float[1,5,4] y) {
    e = Gather <axis = 0> (table, ids)
    m = Cast <to = 1> (attention_mask)
    axis = Constant <value_ints = [2]> ()
    u = Unsqueeze (m, axis)
    z = Mul (e, u)
    a = MatMul (z, w1)
    r = Relu (a)
    y = MatMul (r, w2)
}"""


def mixed() -> onnx.ModelProto:
    """Return a fixed batch of one whose inputs the graph mixes along the first axis."""
    text = VECTOR.replace("float[6] x", "float[1,6] x").replace("float[4] y", "float[1,4] y")
    text = text.replace("a = MatMul", "m = ReduceMean <axes = [0], keepdims = 1> (x)\n a = MatMul")
    return network(text.replace("(x, w1)", "(m, w1)"), LAYERS)


MODELS = {
    "no batch": lambda: network(VECTOR, LAYERS),
    "a state and a scalar": lambda: network(RECURRENT, LAYERS),
    "tokens": lambda: network(
        TOKENS, {"table": draw(1, t=(7, 6))["t"], "w1": LAYERS["w1"], "w2": LAYERS["w2"]}
    ),
    "a batch of one": mixed,
}

ENDS = {
    "ArgMax": ("int64[N]", "y = ArgMax <axis = 1, keepdims = 0> (z)"),
    "TopK": ("float[N,2]", "k = Constant <value_ints = [2]> () y, i = TopK (z, k)"),
    "QuantizeLinear": (
        "uint8[N,4]",
        "s = Constant <value_float = 0.1> () y = QuantizeLinear (z, s)",
    ),
    "ZipMap": (
        "seq(map(int64,float))",
        "p = Softmax (z) y = ai.onnx.ml.ZipMap <classlabels_int64s = [0, 1, 2, 3]> (p)",
    ),
    "Greater": ("bool[N,4]", "t = Constant <value_float = 0.1> () y = Greater (z, t)"),
}


def with_end(name: str) -> onnx.ModelProto:
    kind, body = ENDS[name]
    text = VECTOR.replace("float[6] x", "float[N,6] x").replace("float[4] y", f"{kind} y")
    return network(text.replace("y = Add (c, b2)", f"z = Add (c, b2) {body}"), LAYERS)


def compressed(
    model: onnx.ModelProto, directory: Path, settings: dict[str, Any] = QUICK
) -> tuple[Path, api.Result]:
    path = saved(model, directory)
    chosen = {"num_samples": 24} | settings
    result = api.compress(path, sparsity=0.5, settings=chosen, jobs=1)
    session = onnxruntime.InferenceSession(str(result.output), providers=["CPUExecutionProvider"])
    batching = batching_of(load_model(path))
    signature = input_signature(load_model(path), whole=batching.whole)
    data = load_calibration_data(None, signature, num_samples=3)
    batch = data.batch(np.arange(3))
    for fed in batching_for(session, batch).runs(batch):
        session.run(None, fed)
    return path, result


def zeros(path: Path | None) -> int:
    assert path is not None
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    return sum(int((tensors[name] == 0).sum()) for name in ("w1", "w2"))


@pytest.mark.parametrize("name", MODELS)
def test_any_signature_is_pruned_exactly_and_trained(name: str, tmp_path: Path):
    path, result = compressed(MODELS[name](), tmp_path)
    assert zeros(result.output) == (6 * 8 + 8 * 4) // 2
    fidelity = result.report["fidelity"]
    assert result.report["training"]["untrained"] == []
    assert fidelity["after_recovery"]["divergence"] < fidelity["before_recovery"]["divergence"]
    sparse = onnx.load(str(result.output)).graph
    dense = onnx.load(path).graph
    assert (sparse.input, sparse.output) == (dense.input, dense.output)


@pytest.mark.parametrize("end", ENDS)
def test_an_end_that_cannot_be_compared_is_trained_on_what_stands_before(end: str, tmp_path: Path):
    model = with_end(end)
    (target,) = choose_targets(load_model(saved(model, tmp_path)))
    assert (target.output, target.value, target.inner) == ("y", "z", True)
    _, result = compressed(model, tmp_path)
    assert zeros(result.output) == 40
    assert result.report["training"]["untrained"] == []
    assert result.report["fidelity"]["after_recovery"]["divergence"] > 0


def test_few_samples_for_many_weights_train_from_fitted_layers_with_the_statistics_kept(
    tmp_path: Path,
):
    body = "c = Conv (x, w1) r = Relu (c) p = GlobalAveragePool (r) f = Flatten (p)"
    text = f"net (float[N,3,6,6] x) => (float[N,100] y) {{ {body} y = MatMul (f, w2) }}"
    shapes = {"w1": (400, 3, 3, 3), "w2": (400, 100)}
    told: list[str] = []

    class Told(Quiet):
        def message(self, text: str) -> None:
            told.append(text)

    def compress(samples: int, small: bool = False, **changed: Any) -> dict[str, Any]:
        directory = tmp_path / f"{samples}{changed}"
        directory.mkdir()
        told.clear()
        sizes = {"w1": (8, 3, 3, 3), "w2": (8, 100)} if small else shapes
        path = saved(network(text, draw(0, **sizes)), directory)
        data = {"x": draw(1, x=(samples, 3, 6, 6))["x"]}
        settings = {**QUICK, "training.batch_size": 32, "training.epochs": 2}
        settings |= {f"training.{key}": value for key, value in changed.items()}
        return api.compress(
            path, sparsity=0.8, data=data, settings=settings, jobs=1, progress=Told()
        ).report

    fitted = compress(48)
    assert "trained on 48 samples from layers fitted one by one" in told
    assert fitted["training"]["steps"] == 2
    fidelity = fitted["fidelity"]
    assert fidelity["after_recovery"]["divergence"] < fidelity["before_recovery"]["divergence"] / 2
    compress(128, small=True, reconstruction=False)
    assert not any("fitted one by one" in text for text in told)
    compress(128, small=True)  # in few steps
    assert "trained on 128 samples from layers fitted one by one" in told


def test_few_samples_train_a_convolutional_model_from_fitted_layers(tmp_path: Path):
    _, result = compressed(classifier(), tmp_path, {**QUICK, "num_samples": 32})
    assert any("from layers fitted one by one" in warning for warning in result.report["warnings"])
    assert result.report["training"]["untrained"] == []
    assert result.report["training"]["steps"] == 4
    assert not any("leads away" in warning for warning in result.report["warnings"])
    fidelity = result.report["fidelity"]
    assert fidelity["after_recovery"]["divergence"] < fidelity["before_recovery"]["divergence"] / 2


def test_detections_of_any_number_are_trained_on_what_they_are_chosen_from(tmp_path: Path):
    text = """net (float[N,6] x) => (float[K] found, int64[2,K] where) {
        a = MatMul (x, w1)
        r = Relu (a)
        z = MatMul (r, w2)
        p = Sigmoid (z)
        t = Constant <value_float = 0.5> ()
        more = Greater (p, t)
        where = NonZero (more)
        places = Transpose (where)
        found = GatherND (p, places)
    }"""
    model = network(text, {"w1": LAYERS["w1"], "w2": LAYERS["w2"]})
    targets = choose_targets(load_model(saved(model, tmp_path)))
    assert [(target.value, target.kind, target.inner) for target in targets] == [
        ("z", "probability", True)
    ]
    _, result = compressed(model, tmp_path)
    assert zeros(result.output) == 40
    assert result.report["training"]["untrained"] == []


def test_the_loss_of_an_output_can_be_chosen(tmp_path: Path):
    text = VECTOR.replace("float[6] x", "float[N,6] x").replace("float[4] y", "float[N,4] y")
    text = text.replace("y = Add (c, b2)", "z = Add (c, b2) y = Softmax (z)")
    model = load_model(saved(network(text, LAYERS), tmp_path))
    (chosen,) = choose_targets(model)
    assert (chosen.value, chosen.kind) == ("z", "classes")
    (squared,) = choose_targets(model, {"y": "mse"})
    assert (squared.value, squared.kind) == ("y", "values")
    with pytest.raises(UsageError, match=r"'q'.*compared: y"):
        choose_targets(model, {"q": "kl"})


def test_weights_that_gradients_reach_in_part_are_trained_all_the_same(tmp_path: Path):
    text = """net (float[N,6] x) => (float[N,4] y) {
        a = MatMul (x, w1)
        h = Hardmax <axis = 1> (a)
        r = Relu (a)
        s = Add (r, h)
        y = MatMul (s, w2)
    }"""
    model = network(text, {"w1": LAYERS["w1"], "w2": LAYERS["w2"]})
    _, result = compressed(model, tmp_path)
    assert zeros(result.output) == 40
    assert result.report["training"]["untrained"] == []
    assert result.report["training"]["steps"] > 0


# How samples are fed


@pytest.mark.parametrize(
    ("name", "size", "whole"),
    [
        ("no batch", 1, {"x"}),
        ("a state and a scalar", 1, {"state", "rate"}),
        ("tokens", None, set()),
        ("a batch of one", 1, set()),
    ],
)
def test_what_a_run_takes(name: str, size: int | None, whole: set[str], tmp_path: Path):
    batching = batching_of(load_model(saved(MODELS[name](), tmp_path)))
    assert (batching.size, batching.whole) == (size, whole)


def test_runs_take_every_sample_and_are_joined_in_order():
    batch = {"x": np.arange(10).reshape(5, 2), "s": np.arange(5)}
    pairs = Batching(2)
    runs = list(pairs.runs({"x": batch["x"]}))
    assert [run["x"].tolist() for run in runs][2] == [[8, 9], [0, 1]]
    (joined,) = pairs.joined([[run["x"]] for run in runs], 5)
    np.testing.assert_array_equal(joined, batch["x"])
    single = Batching(1, frozenset({"s"}))
    runs = list(single.runs(batch))
    assert runs[3]["s"].shape == ()
    assert runs[3]["x"].shape == (1, 2)
    x, s = single.joined([[run["x"], run["s"]] for run in runs], 5)
    np.testing.assert_array_equal(x, batch["x"])
    np.testing.assert_array_equal(s, batch["s"])


def test_synthetic_tokens_stay_within_the_table_and_choices_are_made(tmp_path: Path):
    tokens = load_model(saved(MODELS["tokens"](), tmp_path))
    assert index_limits(tokens) == {"ids": 7}
    data = load_calibration_data(None, input_signature(tokens), num_samples=50)
    batch = data.batch(np.arange(50))
    assert set(np.unique(batch["ids"])) == set(range(7))
    assert (batch["attention_mask"] == 1).all()
    recurrent = load_model(saved(MODELS["a state and a scalar"](), tmp_path))
    assert compared_values(recurrent) == {"rate": 16000}
    signature = input_signature(recurrent, whole={"state", "rate"})
    batch = load_calibration_data(None, signature, num_samples=4).batch(np.arange(4))
    assert batch["rate"].tolist() == [16000] * 4
    assert batch["state"].shape == (4, 2, 1, 6)


@pytest.mark.parametrize("taken", [True, False])
def test_the_branch_that_is_always_taken_takes_the_place_of_the_if(taken: bool, tmp_path: Path):
    model = load_model(saved(MODELS["a state and a scalar"](), tmp_path))
    settled = with_branches_taken(model, lambda _, names: dict.fromkeys(names, np.array([taken])))
    kinds = [node.op_type for node in settled.graph]
    assert "If" not in kinds
    assert ("Relu" in kinds) == taken
    feeds = {
        "x": np.ones((1, 6), np.float32),
        "state": np.ones((2, 1, 6), np.float32),
        "rate": np.array(16000 if taken else 8000),
    }
    for ours, theirs in zip(run(settled, feeds), run(model, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("seen", [[0, 1], []])
def test_an_if_stays_where_it_decides_both_ways_or_is_not_seen_to_decide(
    seen: list[int], tmp_path: Path
):
    model = load_model(saved(MODELS["a state and a scalar"](), tmp_path))
    assert with_branches_taken(model, lambda _, names: {n: np.array(seen) for n in names}) is model


def test_an_if_within_a_branch_that_decides_by_the_same_condition_is_taken_too(tmp_path: Path):
    text = """net (float[N,6] x, bool c) => (float[N,6] y) {
        y = If (c) <
            then_branch = outer () => (float[N,6] t) {
                r = Relu (x)
                t = If (c) <
                    then_branch = inner () => (float[N,6] p) { p = Tanh (r) },
                    else_branch = other () => (float[N,6] q) { q = Exp (r) }
                >
            },
            else_branch = never () => (float[N,6] e) { e = Neg (x) }
        >
    }"""
    model = load_model(saved(network(text, {}), tmp_path))
    settled = with_branches_taken(model, lambda _, names: dict.fromkeys(names, np.array([True])))
    kinds = {node.op_type for node in settled.graph}
    assert kinds == {"Relu", "Tanh", "Identity"}
    feeds = {"x": np.ones((2, 6), np.float32), "c": np.array(True)}
    np.testing.assert_allclose(run(settled, feeds)[0], run(model, feeds)[0], rtol=1e-6)


def run(model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(serialize(model), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


# Weights of other types and operators


def test_weights_in_bfloat16_are_trained_behind_their_cast(tmp_path: Path):
    text = """net (float[N,6] x) => (float[N,4] y) {
        w = Cast <to = 1> (w1) a = MatMul (x, w) r = Relu (a) y = MatMul (r, w2)
    }"""
    stored = {"w1": LAYERS["w1"].astype(ml_dtypes.bfloat16), "w2": LAYERS["w2"]}
    _, result = compressed(network(text, stored), tmp_path)
    assert zeros(result.output) == 40
    assert result.report["training"]["untrained"] == []
    fidelity = result.report["fidelity"]
    assert fidelity["after_recovery"]["divergence"] < fidelity["before_recovery"]["divergence"]


@pytest.mark.parametrize("opset", [18, 22])
def test_bfloat16_that_no_kernel_takes_is_refused_for_that(opset: int, tmp_path: Path):
    text = "net (bfloat16[N,6] x) => (bfloat16[N,4] y) { y = Gemm (x, w, b) }"
    shapes = {"w": (6, 4), "b": (4,)}
    tensors = {name: np.ones(shape, ml_dtypes.bfloat16) for name, shape in shapes.items()}
    model = network(text, tensors, opset=opset, ir_version=10)
    with pytest.raises(UnsupportedModelError) as raised:
        compressed(model, tmp_path)
    told = str(raised.value)
    assert "implementation for Gemm" in told
    assert "few operators take bfloat16 on a CPU: export the model in float32" in told
    assert "under development" not in told


def test_weights_in_loops_and_branches_are_trained(tmp_path: Path):
    text = """net (float[N,6] x) => (float[N,6] y) {
        times = Constant <value_int = 3> ()
        y = Loop (times, , x) <body = body (int64 i, bool go, float[N,6] h)
        => (bool on, float[N,6] n) {
            on = Identity (go)
            s = ReduceSum <keepdims = 0> (h)
            zero = Constant <value_float = 0.0> ()
            c = Greater (s, zero)
            n = If (c) <
                then_branch = first () => (float[N,6] p) { p = MatMul (h, w1) },
                else_branch = second () => (float[N,6] q) { q = MatMul (h, w2) }
            >
        }>
    }"""
    model = network(text, draw(2, w1=(6, 6), w2=(6, 6)))
    _, result = compressed(model, tmp_path)
    assert zeros(result.output) == 36
    assert result.report["training"]["untrained"] == []
    fidelity = result.report["fidelity"]
    assert fidelity["after_recovery"]["divergence"] < fidelity["before_recovery"]["divergence"]


def test_weights_behind_a_loop_that_reads_what_is_computed_outside_are_trained(tmp_path: Path):
    text = """net (float[N,6] x) => (float[N,4] y) {
        outside = Tanh (x)
        largest = ReduceMax <keepdims = 0> (x)
        times = Cast <to = 7> (largest)
        z = Loop (times, , x) <body = body (int64 i, bool go, float[N,6] h)
        => (bool on, float[N,6] n) {
            on = Identity (go)
            s = Add (h, outside)
            n = Tanh (s)
        }>
        a = Gemm (z, w1, b1)
        r = Relu (a)
        y = Gemm (r, w2, b2)
    }"""
    _, result = compressed(network(text, LAYERS), tmp_path)
    assert zeros(result.output) == 40
    assert result.report["training"]["steps"] > 0
    assert result.report["training"]["untrained"] == []
    assert not any("without training" in text for text in result.report["warnings"])


@pytest.mark.parametrize(("kind", "dtype"), [("float16", np.float16), ("double", np.float64)])
def test_weights_of_a_model_that_answers_in_another_type_are_trained(
    kind: str, dtype: Any, tmp_path: Path
):
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    text = VECTOR.replace("float[6] x", "float[N,6] x").replace("float[4] y", f"{kind}[N,4] y")
    text = text.replace("y = Add (c, b2)", f"z = Add (c, b2) y = Cast <to = {number}> (z)")
    model = network(text, LAYERS)
    _, result = compressed(model, tmp_path)
    assert zeros(result.output) == 40
    assert result.report["training"]["steps"] > 0
    assert result.report["training"]["untrained"] == []
    written = onnx.load(str(result.output))
    assert written.graph.output == model.graph.output
    assert run(from_proto(written), {"x": np.ones((2, 6), np.float32)})[0].dtype == dtype


def test_where_einsum_has_all_weights_they_are_pruned_and_trained(tmp_path: Path):
    text = """net (float[N,5,6] x) => (float[N,5,4] y) {
        a = Einsum <equation = "bsi,ih->bsh"> (x, w1)
        r = Relu (a)
        y = Einsum <equation = "bsi,ih->bsh"> (r, w2)
    }"""
    _, result = compressed(network(text, {n: LAYERS[n] for n in ("w1", "w2")}), tmp_path)
    assert zeros(result.output) == 40
    assert result.report["training"]["untrained"] == []
    assert any("those of Einsum are pruned" in text for text in result.report["warnings"])


# Quantised weights


def test_where_all_weights_are_quantised_they_are_pruned_to_their_zero_point(tmp_path: Path):
    rng = np.random.default_rng(0)
    tensors = {
        "w": rng.integers(0, 256, (6, 8)).astype(np.uint8),
        "s": np.float32(0.1),
        "z": np.uint8(120),
    }
    text = """net (float[N,6] x) => (float[N,8] y) {
        d = DequantizeLinear (w, s, z) y = MatMul (x, d)
    }"""
    path = saved(network(text, tensors), tmp_path)
    (weight,) = api.inspect(path)["weights"]
    assert not weight["pruned"]
    result = api.compress(path, sparsity=0.5, settings={"num_samples": 8}, jobs=1)
    (written,) = (t for t in onnx.load(str(result.output)).graph.initializer if t.name == "w")
    assert int((onnx.numpy_helper.to_array(written) == 120).sum()) == 24
    assert result.report["sparsity"]["zeros"] == 24
    assert any("integers" in text for text in result.report["warnings"])


# Processes of their own


def test_what_ends_its_process_is_an_error_here():
    with pytest.raises(UnsupportedModelError, match="SIGKILL"):
        isolated(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_errors_and_results_come_out_of_the_process():
    assert isolated(sum, [1, 2]) == 3
    with pytest.raises(UnsupportedModelError, match="ZeroDivisionError"):
        isolated(lambda: 1 / 0)
    with pytest.raises(UsageError, match="as it is"):
        isolated(_misused)


@pytest.mark.parametrize("in_memory", [True, False])
def test_arrays_come_out_of_the_process_and_are_those_of_this_one(
    in_memory: bool, monkeypatch: pytest.MonkeyPatch
):
    if not in_memory:  # as in Pythons built for old systems
        monkeypatch.delattr(os, "memfd_create", raising=False)
    made = [np.arange(5, dtype=np.uint8), np.ones((2, 3)), np.zeros(0, np.float32), np.float32(2)]
    whole, part, empty, number = isolated(lambda: made)
    np.testing.assert_array_equal(whole, made[0])
    np.testing.assert_array_equal(part, made[1])
    assert (empty.shape, empty.dtype, number) == ((0,), np.float32, 2)
    assert part.flags.aligned
    assert empty.flags.writeable
    isolated(part.fill, 7)  # in another process, whose copy it is
    part += 1
    np.testing.assert_array_equal(part, np.full((2, 3), 2.0))


def test_the_peak_of_memory_is_also_that_of_processes_that_ran():
    text = """
import numpy as np
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.memory import peak_memory
before = peak_memory()
isolated(lambda: float(np.ones(1 << 25).sum()))
print((peak_memory() - before) >> 20)
"""
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert 200 < int(found.stdout) < 400


def _misused() -> None:
    raise UsageError("as it is")


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        ("y = Conv <group = 2> (x, w)", {1: 6}),
        ("i = Identity (x) y = Conv (i, w)", {1: 3}),
        ("y = Conv (w, x)", {}),
        ("r = Relu (x) y = Conv (r, w)", {}),
    ],
)
def test_the_weight_of_a_layer_says_how_many_channels_it_reads(body: str, sizes: dict[int, int]):
    text = f"net (float[a,b,c,d] x) => (float[e,f,g,h] y) {{ {body} }}"
    tensors = {"w": np.ones((4, 3, 3, 3), np.float32)}
    model = from_proto(network(text, tensors))
    assert read_sizes(model).get("x", {}) == sizes
    (spec,) = input_signature(model)
    assert spec.shape == ("a", sizes.get(1, "b"), "c", "d")


def test_an_optional_input_is_refused(tmp_path: Path):
    text = """net (optional(float[N,6]) x) => (float[N,8] y) {
        c = OptionalGetElement (x)
        y = MatMul (c, w1)
    }"""
    path = saved(network(text, {"w1": LAYERS["w1"]}), tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"'x' of the model is optional.*tensors"):
        api.compress(path, sparsity=0.5, settings=QUICK)
