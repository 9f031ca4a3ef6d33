"""Packing: small files that compute the same weights, and unpack to the same model bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_networks import network

from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import from_proto, load_model, save_model, serialize
from onnx_unipts.graph.packing import ENCODINGS, Packing, choices, pack, unpack
from onnx_unipts.graph.prunable import find_prunable

MODELS = Path(__file__).parents[2] / "shared" / "models"
DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64")


def sparse_array(
    shape: tuple[int, ...], density: float, dtype: str = "float32", seed: int = 0, odd: bool = False
) -> np.ndarray:
    """Draw bits, so that every value may come: NaNs with payloads, subnormals, negative zeros."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    kind = np.dtype(dtype)
    values = rng.integers(1, 256, size * kind.itemsize).astype(np.uint8).view(kind)
    if not odd and kind.kind == "f":
        values = rng.standard_normal(size).astype(kind)
    array = np.where(rng.random(size) < density, values, np.zeros(1, kind))
    if odd and kind.kind == "f" and size > 2:
        array[rng.integers(size, size=2)] = -0.0, np.nan
    return array.reshape(shape)


def holder(arrays: dict[str, np.ndarray], text: str = "", opset: int = 17) -> onnx.ModelProto:
    """Return a model that outputs its tensors, so that a session shows what it unpacked."""
    kinds = {n: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in arrays.items()}
    nodes = [onnx.helper.make_node("Identity", [name], [f"{name}_out"]) for name in arrays]
    made = [
        onnx.helper.make_tensor_value_info(f"{n}_out", kinds[n], a.shape) for n, a in arrays.items()
    ]
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "holder", [], made, stored)
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8
    )


def packed_file(
    model: onnx.ModelProto | Path, path: Path, how: str = "delta8", half: bool = False
) -> Packing:
    """Pack ``model`` into the file ``path``, beside which its plain form is written, too."""
    source = model if isinstance(model, Path) else path.with_suffix(".source.onnx")
    if not isinstance(model, Path):
        onnx.save(model, source)
    loaded = load_model(source)
    save_model(loaded, path.with_suffix(".plain.onnx"))
    packing = pack(loaded, how, half=half)
    save_model(loaded, path)
    return packing


def restored(path: Path) -> bytes:
    """Return the file that unpacking the file ``path`` gives."""
    save_model(load_model(path), path.with_suffix(".restored.onnx"))
    return path.with_suffix(".restored.onnx").read_bytes()


def session(
    path: Path | bytes, optimize: bool = True, **options: str
) -> onnxruntime.InferenceSession:
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = 1
    chosen.log_severity_level = 4
    if not optimize:
        chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, value in options.items():
        setattr(chosen, name, value)
    return onnxruntime.InferenceSession(path, chosen, providers=["CPUExecutionProvider"])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# Encodings


@given(
    kind=st.sampled_from(sorted(ENCODINGS)),
    size=st.integers(1, 5000),
    density=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.001, 0.01, 1.0])),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
def test_every_encoding_gives_the_same_bits_back(
    kind: str, size: int, density: float, dtype: str, seed: int
):
    flat = sparse_array((size,), density, dtype, seed, odd=True)
    parts = ENCODINGS[kind]().encode(flat)
    if parts is not None:
        assert same_bits(ENCODINGS[kind]().decode(parts, size), flat)


def test_distances_of_two_bytes_are_used_where_nearly_all_is_zero():
    flat = sparse_array((500_000,), 1e-4)
    parts = ENCODINGS["delta8"]().encode(flat)
    assert parts is not None
    assert parts["c"].dtype == np.uint16
    assert len(parts["v"]) == np.count_nonzero(flat)
    assert same_bits(ENCODINGS["delta8"]().decode(parts, flat.size), flat)


@pytest.mark.parametrize("distance", [254, 255, 256, 257, 510, 511, 512, 65535, 65536])
def test_any_distance_between_values_is_bridged(distance: int):
    flat = np.zeros(distance + 100, np.float32)
    flat[[10, 10 + distance]] = 1, 2
    parts = ENCODINGS["delta8"]().encode(flat)
    assert same_bits(ENCODINGS["delta8"]().decode(parts, flat.size), flat)


@pytest.mark.parametrize("kind", ["delta8", "nibble", "bitmask"])
def test_positions_behind_the_last_element_are_refused(kind: str):
    flat = np.zeros(64, np.float32)
    flat[[3, 63]] = 1, 2
    parts = ENCODINGS[kind]().encode(flat)
    with pytest.raises(ValueError, match=r"outside of the 63 elements|bits for 63 elements"):
        ENCODINGS[kind]().decode(parts, 63)


# Files


@given(
    how=st.sampled_from(choices()),
    shape=st.lists(st.integers(1, 24), min_size=1, max_size=4).map(tuple),
    density=st.floats(0, 0.6),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
def test_a_packed_model_unpacks_to_the_same_model_and_computes_the_same_bits(
    how: str, shape: tuple[int, ...], density: float, dtype: str, seed: int
):
    arrays = {
        "w": sparse_array(shape, density, dtype, seed, odd=True),
        "u": sparse_array((9, 100), density, "float32", seed),
        "dense": sparse_array((9, 100), 1.0, "float32", seed),
    }
    plain = serialize(from_proto(holder(arrays)))
    model = from_proto(onnx.load_model_from_string(plain))
    pack(model, how)
    packed = serialize(model)
    for made, array in zip(session(packed).run(None, {}), arrays.values(), strict=True):
        assert same_bits(made, array)
    again = from_proto(onnx.load_model_from_string(packed))
    unpack(again)
    assert serialize(again) == plain


@pytest.mark.parametrize("how", choices())
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_is_packed_small_and_folded_when_loaded(how: str, dtype: str, tmp_path: Path):
    array = sparse_array((64, 32, 3, 3), 0.05, dtype)
    path = tmp_path / "m.onnx"
    packing = packed_file(holder({"w": array, "z": np.zeros_like(array)}), path, how)
    assert {weight.name: weight.kind == "zero" for weight in packing.packed} == {
        "w": False,
        "z": True,
    }
    assert path.stat().st_size < 0.4 * array.nbytes
    for optimize in (True, False):
        w, z = session(path, optimize).run(None, {})
        assert same_bits(w, array)
        assert not z.any()
    optimized = tmp_path / "optimized.onnx"
    session(path, optimized_model_filepath=str(optimized))
    assert {node.op_type for node in onnx.load(optimized).graph.node} <= {"Identity"}
    onnx.checker.check_model(onnx.load(path), full_check=True)


def zeroed(path: Path, sparsity: float = 0.9) -> onnx.ModelProto:
    """Return a model with the smallest of each prunable weight set to zero."""
    model = onnx.load(path)
    keys = {weight.name for weight in find_prunable(load_model(path)) if weight.pruned}
    for tensor in model.graph.initializer:
        if tensor.name in keys:
            array = onnx.numpy_helper.to_array(tensor)
            limit = np.quantile(np.abs(array), sparsity)
            kept = np.where(np.abs(array) > limit, array, np.zeros(1, array.dtype))
            tensor.CopyFrom(onnx.numpy_helper.from_array(kept, tensor.name))
    return model


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the models beside the checkout")
@pytest.mark.parametrize("how", ["delta8", "smallest"])
@pytest.mark.parametrize("name", ["cifar10/resnet20_folded.onnx", "imagenet/mobilenetv2.onnx"])
def test_a_network_packed_computes_the_same_and_the_session_holds_plain_initializers(
    name: str, how: str, tmp_path: Path
):
    path = tmp_path / "m.onnx"
    packing = packed_file(zeroed(MODELS / name), path, how)
    plain = path.with_suffix(".plain.onnx")
    assert len(packing.packed) > 10
    assert restored(path) == plain.read_bytes()
    assert path.stat().st_size < 0.16 * plain.stat().st_size
    rng = np.random.default_rng(0)
    sessions = [session(file) for file in (plain, path)]
    (entry,) = sessions[0].get_inputs()
    shape = [axis if isinstance(axis, int) else 2 for axis in entry.shape]
    feeds = {entry.name: rng.standard_normal(shape).astype(np.float32)}
    for ours, theirs in zip(*(s.run(None, feeds) for s in sessions), strict=True):
        assert same_bits(ours, theirs)
    kinds, stored = [], []
    for file in (plain, path):
        optimized = tmp_path / f"optimized.{file.name}"
        session(file, optimized_model_filepath=str(optimized))
        graph = onnx.load(optimized).graph
        kinds.append(sorted(node.op_type for node in graph.node))
        stored.append(sorted(tensor.SerializeToString()[-64:] for tensor in graph.initializer))
    assert kinds[0] == kinds[1]
    assert len(stored[0]) == len(stored[1])


PUBLISHED = sorted(MODELS.glob("*/*.onnx")) if MODELS.is_dir() else []


@pytest.mark.skipif(not PUBLISHED, reason="needs the models beside the checkout")
def test_files_of_other_tools_come_back_as_they_were(tmp_path: Path):
    done = 0
    for source in PUBLISHED:
        if source.stat().st_size > 400_000 or "external" in source.name:
            continue
        loaded = load_model(source)
        if loaded.opset_imports.get("", 99) < 11 or loaded.ir_version < 4:
            continue
        path = tmp_path / "m.onnx"
        packing = packed_file(zeroed(source), path, "smallest")
        assert restored(path) == path.with_suffix(".plain.onnx").read_bytes(), source.name
        done += len(packing.packed)
    assert done > 100


def test_weights_in_constant_nodes_are_packed_in_their_place(tmp_path: Path):
    array = sparse_array((40, 40), 0.1)
    model = network(
        "net (float[N,40] x) => (float[N,40] y) { a = Relu (x) c = MatMul (a, w) y = Add (c, w2) }",
        {"w": array, "w2": sparse_array((40,), 1.0)},
    )
    constant = onnx.helper.make_node(
        "Constant", [], ["w"], name="theirs", value=model.graph.initializer[0], doc_string="doc"
    )
    nodes = list(model.graph.node)
    del model.graph.node[:], model.graph.initializer[0]
    model.graph.node.extend([nodes[0], constant, *nodes[1:]])
    path = tmp_path / "m.onnx"
    assert [weight.name for weight in packed_file(model, path).packed] == ["w"]
    assert restored(path) == path.with_suffix(".plain.onnx").read_bytes()
    back = onnx.load(path.with_suffix(".restored.onnx")).graph.node[1]
    assert (back.op_type, back.name, back.doc_string) == ("Constant", "theirs", "doc")
    x = np.ones((2, 40), np.float32)
    ours, theirs = (
        session(file).run(None, {"x": x})[0] for file in (path, path.with_suffix(".plain.onnx"))
    )
    assert same_bits(ours, theirs)


def test_a_weight_that_is_an_output_and_one_used_in_a_subgraph_stay_what_they_are(tmp_path: Path):
    array = sparse_array((64, 64), 0.1)
    model = network(
        """net (float[N,64] x, bool c) => (float[64,64] w, float[N,64] y) {
            y = If (c) <
                then_branch = a () => (float[N,64] s) { s = MatMul (x, w) },
                else_branch = b () => (float[N,64] t) { t = Identity (x) }
            >
        }""",
        {"w": array},
    )
    path = tmp_path / "m.onnx"
    assert [weight.name for weight in packed_file(model, path).packed] == ["w"]
    assert restored(path) == path.with_suffix(".plain.onnx").read_bytes()
    feeds = {"x": np.ones((2, 64), np.float32), "c": np.array(True)}
    w, y = session(path).run(None, feeds)
    assert same_bits(w, array)
    assert y.any()


def test_what_several_weights_need_is_stored_once(tmp_path: Path):
    arrays = {f"w{i}": sparse_array((32, 32, 3, 3), 0.1, seed=i) for i in range(6)}
    path = tmp_path / "m.onnx"
    packed_file(holder(arrays), path)
    graph = onnx.load(path).graph
    assert len(graph.initializer) == 6 * 3 + 4
    assert sum(node.op_type == "ConstantOfShape" for node in graph.node) == 1


def test_half_precision_values_are_the_nearest_and_keep_their_signs(tmp_path: Path):
    array = sparse_array((64, 32, 3, 3), 0.1)
    array[0, :2] = 1e-12
    array[0, 1] *= -1
    dense = sparse_array((50, 50), 1.0)
    arrays = {"w": array, "dense": dense, "bias": sparse_array((900,), 1.0)}
    path = tmp_path / "m.onnx"
    packing = packed_file(holder(arrays), path, "smallest", half=True)
    assert {weight.name for weight in packing.packed} == {"w", "dense"}
    w, d, bias = session(path).run(None, {})
    assert np.array_equal(np.sign(w), np.sign(array))
    np.testing.assert_allclose(w, array, rtol=1e-3, atol=6e-8)
    np.testing.assert_array_equal(d, dense.astype(np.float16).astype(np.float32))
    assert same_bits(bias, arrays["bias"])
    unpacked = load_model(path).graph.initializers
    assert same_bits(unpacked["w"].const_value.numpy(), w)  # type: ignore[union-attr]


def test_values_beyond_half_precision_stay_what_they_are(tmp_path: Path):
    array = sparse_array((64, 64), 0.1)
    array[0, 0] = 1e6
    packed_file(holder({"w": array}), tmp_path / "m.onnx", "smallest", half=True)
    (w,) = session(tmp_path / "m.onnx").run(None, {})
    assert same_bits(w, array)


def test_a_model_without_zeros_packs_to_itself(tmp_path: Path):
    path = tmp_path / "m.onnx"
    packing = packed_file(holder({"w": sparse_array((64, 64), 1.0)}), path, "smallest")
    assert not packing.packed
    assert packing.zeros == 0
    assert path.read_bytes() == path.with_suffix(".plain.onnx").read_bytes()


def test_weights_that_gain_little_and_weights_that_callers_may_override_stay_dense(tmp_path: Path):
    arrays = {"small": sparse_array((10, 10), 0.1), "given": sparse_array((64, 64), 0.1)}
    model = holder(arrays)
    model.graph.input.append(onnx.helper.make_tensor_value_info("given", 1, [64, 64]))
    path = tmp_path / "m.onnx"
    packing = packed_file(model, path)
    assert not packing.packed
    assert "smaller" in packing.dense["small"]
    assert "override" in packing.dense["given"]
    assert path.read_bytes() == path.with_suffix(".plain.onnx").read_bytes()


def test_negative_zeros_are_counted(tmp_path: Path):
    array = sparse_array((64, 64), 0.1)
    array[:4] = -0.0
    packing = packed_file(holder({"w": array}), tmp_path / "m.onnx")
    assert packing.negative_zeros == 4 * 64


def test_external_data_stays_external(tmp_path: Path):
    arrays = {"w": sparse_array((64, 64), 0.3), "dense": sparse_array((64, 64), 1.0)}
    source = tmp_path / "source.onnx"
    onnx.save(holder(arrays), source, save_as_external_data=True, location="d", size_threshold=1024)
    path = tmp_path / "m.onnx"
    packed_file(source, path)
    assert (tmp_path / "m.onnx.data").stat().st_size < 1.4 * arrays["dense"].nbytes
    for made, array in zip(session(path).run(None, {}), arrays.values(), strict=True):
        assert same_bits(made, array)
    save_model(load_model(path), tmp_path / "back.onnx")
    back = onnx.load(tmp_path / "back.onnx")
    for tensor in back.graph.initializer:
        assert same_bits(onnx.numpy_helper.to_array(tensor), arrays[tensor.name])


def test_names_of_the_model_are_left_alone(tmp_path: Path):
    arrays = {"pk0c": sparse_array((64, 64), 0.1), "pk_0.1": sparse_array((64, 64), 0.1)}
    path = tmp_path / "m.onnx"
    packed_file(holder(arrays), path)
    assert restored(path) == path.with_suffix(".plain.onnx").read_bytes()
    for made, array in zip(session(path).run(None, {}), arrays.values(), strict=True):
        assert same_bits(made, array)


def test_a_subgraph_is_recognised_by_its_structure_when_names_are_gone(tmp_path: Path):
    arrays = {"w": sparse_array((64, 64), 0.1), "u": sparse_array((90, 64), 0.3)}
    path = tmp_path / "m.onnx"
    packed_file(holder(arrays), path, "smallest")
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, path)
    names = [value.name for value in load_model(path).graph.initializers.values()]
    assert names == ["w", "u"]


@pytest.mark.parametrize("opset", [9, 10])
def test_an_opset_without_the_operators_is_refused_with_the_remedy(opset: int, tmp_path: Path):
    with pytest.raises(UnsupportedModelError, match="opset 11 or newer"):
        packed_file(holder({"w": sparse_array((64, 64), 0.1)}, opset=opset), tmp_path / "m.onnx")


# Damage


def damaged(path: Path, part: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the first stored tensor whose name ends in ``part``."""
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name.endswith(part))
    array = change(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)


def with_first(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.reshape(-1)[0] = value
        return array

    return change


DAMAGE: dict[str, tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = {
    "delta8: a distance too long": ("delta8", "0c", lambda a: np.full_like(a, 255)),
    "delta8: a start out of range": ("delta8", "0b", with_first(10**6)),
    "delta8: a negative start": ("delta8", "0b", with_first(-5)),
    "delta8: values missing": ("delta8", "0v", lambda a: a[:-1]),
    "delta8: distances missing": ("delta8", "0c", lambda a: a[:-1]),
    "delta8: a position twice": ("delta8", "0c", lambda a: np.zeros_like(a)),
    "delta8: another count of elements": ("delta8", ".N36864", with_first(36863)),
    "delta8: another shape": ("delta8", ".s64x64x9", with_first(65)),
    "delta8: a negative shape": ("delta8", ".s64x64x9", with_first(-64)),
    "delta8: distances of another type": ("delta8", "0c", lambda a: a.astype(np.int32)),
    "bitmask: bits beside the values": ("bitmask", "0c", with_first(255)),
    "bitmask: a start out of range": ("bitmask", "0b", with_first(10**6)),
    "bitmask: a value more": ("bitmask", "0v", lambda a: np.append(a, a[-1])),
    "bitmask: values missing": ("bitmask", "0v", lambda a: a[:-1]),
    "bitmask: bits missing": ("bitmask", "0c", lambda a: a[:-1]),
    "bitmask: the leading zero is none": ("bitmask", "0v", with_first(1)),
    "nibble: codes that lead too far": ("nibble", "0c", lambda a: np.full_like(a, 255)),
    "nibble: a start out of range": ("nibble", "0b", with_first(10**6)),
    "nibble: a number out of range": ("nibble", "0n", with_first(10**6)),
    "nibble: a value more": ("nibble", "0v", lambda a: np.append(a, a[-1])),
    "nibble: values missing": ("nibble", "0v", lambda a: a[:-1]),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_refused_before_a_runtime_sees_it(case: str, tmp_path: Path):
    how, part, change = DAMAGE[case]
    path = tmp_path / "m.onnx"
    packed_file(holder({"w": sparse_array((64, 64, 9), 0.1)}), path, how)
    damaged(path, part, change)
    with pytest.raises(UnsupportedModelError, match=r"m\.onnx: weight 'w'.*damaged") as raised:
        load_model(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path):
    path = tmp_path / "m.onnx"
    packed_file(holder({"w": sparse_array((64, 64, 9), 0.1)}), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnsupportedModelError):
        load_model(path)


def test_nodes_that_are_missing_are_noticed(tmp_path: Path):
    path = tmp_path / "m.onnx"
    packed_file(holder({"w": sparse_array((64, 64, 9), 0.1)}), path)
    model = onnx.load(path)
    position = next(i for i, n in enumerate(model.graph.node) if n.op_type == "CumSum")
    cast = model.graph.node[position].input[0]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == model.graph.node[position].output[0]:
                node.input[i] = cast
    del model.graph.node[position]
    onnx.save(model, path)
    with pytest.raises(UnsupportedModelError, match="damaged"):
        load_model(path)


SPARSE_DAMAGE: dict[str, Callable[[onnx.SparseTensorProto], None]] = {
    "an index out of range": lambda s: _set_indices(s, lambda i: i + 4096),
    "a negative index": lambda s: _set_indices(s, lambda i: i - 4096),
    "an index twice": lambda s: _set_indices(s, lambda i: np.zeros_like(i)),
    "fewer indices than values": lambda s: _set_indices(s, lambda i: i[1:]),
    "a smaller shape": lambda s: s.dims.__setitem__(0, 1),
    "a huge shape": lambda s: s.dims.__setitem__(0, 2**60),
    "data cut off": lambda s: setattr(s.values, "raw_data", s.values.raw_data[:-3]),
}


def _set_indices(
    sparse: onnx.SparseTensorProto, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    indices = change(onnx.numpy_helper.to_array(sparse.indices))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(indices, sparse.indices.name))


def sparse_file(path: Path) -> onnx.ModelProto:
    array = sparse_array((64, 64), 0.1)
    model = holder({"w": array})
    positions = np.flatnonzero(array)
    model.graph.sparse_initializer.append(
        onnx.helper.make_sparse_tensor(
            onnx.numpy_helper.from_array(array.reshape(-1)[positions], "w"),
            onnx.numpy_helper.from_array(positions.astype(np.int64), "w_indices"),
            [64, 64],
        )
    )
    del model.graph.initializer[:]
    onnx.save(model, path)
    return model


@pytest.mark.parametrize("case", SPARSE_DAMAGE)
def test_a_damaged_sparse_initializer_is_refused_before_a_runtime_sees_it(
    case: str, tmp_path: Path
):
    path = tmp_path / "m.onnx"
    model = sparse_file(path)
    load_model(path)
    SPARSE_DAMAGE[case](model.graph.sparse_initializer[0])
    onnx.save(model, path)
    with pytest.raises(UnsupportedModelError, match=r"m\.onnx: sparse tensor 'w'"):
        load_model(path)


def test_a_tensor_stored_dense_and_sparse_is_refused(tmp_path: Path):
    path = tmp_path / "m.onnx"
    model = sparse_file(path)
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.zeros((64, 64), np.float32), "w")
    )
    onnx.save(model, path)
    with pytest.raises(UnsupportedModelError, match="stored twice"):
        load_model(path)


def test_the_smallest_is_no_larger_than_any_encoding(tmp_path: Path):
    source = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"
    sizes = {}
    for how in choices():
        path = tmp_path / f"{how}.onnx"
        packed_file(zeroed(source, 0.8), path, how)
        sizes[how] = path.stat().st_size
    assert sizes["smallest"] == min(sizes.values())
