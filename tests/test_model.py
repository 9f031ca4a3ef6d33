"""Reading and writing model files: what is refused, what survives, what is left behind."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from small_networks import perceptron, saved

from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError, UsageError
from onnx_unipts.graph.model import (
    find_nonfinite,
    load_model,
    read_tensors,
    save_model,
    serialize,
    write_tensors,
)

SHARED = Path(__file__).parents[2] / "shared" / "models"
FORMS = SHARED / "forms"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="needs the shared models")


def linear_model(weight: np.ndarray | None = None, **options) -> onnx.ModelProto:
    """Build y = x @ w + b with a dynamic batch, metadata and a doc string."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((16, 24)).astype(np.float32) if weight is None else weight
    rows, columns = weight.shape
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["y"], name="add"),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", columns])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.zeros(columns, np.float32), "b"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, **options)
    helper.set_model_props(model, {"author": "someone"})
    return model


def with_external_data(directory: Path, name: str = "model.onnx") -> Path:
    path = directory / name
    onnx.save(
        linear_model(),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return path


@pytest.mark.parametrize("stored", ["inside", "beside"])
def test_what_is_said_of_a_weight_is_kept_once(stored, tmp_path):
    model = linear_model()
    weight = model.graph.initializer[0]
    weight.doc_string = "of the first layer"
    helper.set_metadata_props(weight, {"source": "someone"})
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=stored == "beside", size_threshold=0)
    for turn in ("once.onnx", "twice.onnx"):
        save_model(load_model(path), path := tmp_path / turn)
    written = onnx.load(path, load_external_data=False).graph.initializer[0]
    assert (len(written.external_data) > 0) == (stored == "beside")
    assert written.doc_string == "of the first layer"
    assert [(each.key, each.value) for each in written.metadata_props] == [("source", "someone")]


def run(path: Path, x: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(path).run(None, {"x": x})[0]


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# What is refused


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnsupportedModelError, match="no such file"):
        load_model(tmp_path / "nothing.onnx")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(UnsupportedModelError, match="directory"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not an ONNX"),
        (b"just some text, no model at all", "not an ONNX"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"\x1c\x00\x00\x00ORTM" + bytes(100), "ORT format"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph"),
    ],
)
def test_what_is_not_an_onnx_file_is_refused(tmp_path, content, reason):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_truncated_file_is_refused_or_whole(tmp_path_factory, data):
    content = linear_model().SerializeToString()
    path = tmp_path_factory.mktemp("truncated") / "model.onnx"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    try:
        model = load_model(path)
    except UnsupportedModelError:
        return
    # What was cut off can only be metadata, which stands behind the graph and the opset.
    assert model.opset_imports == {"": 17}
    assert len(model.graph) == 2


def test_a_tensor_with_too_little_data_is_refused(tmp_path):
    model = linear_model()
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModelError, match="tensor 'w'"):
        load_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("change", ["opset", "ir"])
def test_a_version_from_the_future_is_refused(tmp_path, change):
    model = linear_model()
    if change == "opset":
        model.opset_import[0].version = 999
    else:
        model.ir_version = 999
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModelError, match="999"):
        load_model(tmp_path / "model.onnx")


def test_missing_external_data_is_refused(tmp_path):
    path = with_external_data(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(UnsupportedModelError, match=r"no file 'weights\.bin'"):
        load_model(path)


def test_truncated_external_data_is_refused(tmp_path):
    path = with_external_data(tmp_path)
    os.truncate(tmp_path / "weights.bin", 100)
    with pytest.raises(UnsupportedModelError, match="truncated"):
        load_model(path)


@pytest.mark.parametrize("way", ["absolute", "parent", "symlink"])
def test_external_data_outside_the_directory_is_refused(tmp_path, way):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = with_external_data(inside)
    secret = tmp_path / "secret.bin"
    (inside / "weights.bin").rename(secret)
    location = {"absolute": str(secret), "parent": "../secret.bin", "symlink": "link.bin"}[way]
    if way == "symlink":
        (inside / "link.bin").symlink_to(secret)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModelError, match="outside the directory"):
        load_model(path)


def test_external_data_may_be_a_symlink_or_hard_link_within_the_directory(tmp_path):
    path = with_external_data(tmp_path)
    (tmp_path / "weights.bin").rename(tmp_path / "real.bin")
    (tmp_path / "weights.bin").symlink_to("real.bin")
    os.link(tmp_path / "real.bin", tmp_path / "other_name.bin")
    expected = numpy_helper.to_array(linear_model().graph.initializer[0])
    np.testing.assert_array_equal(read_tensors(load_model(path), ["w"])["w"], expected)


def test_an_opset_imported_twice_loads(tmp_path):
    model = linear_model()
    model.opset_import.append(helper.make_opsetid("", 17))
    onnx.save(model, tmp_path / "model.onnx")
    assert load_model(tmp_path / "model.onnx").opset_imports == {"": 17}


def test_the_long_name_of_the_standard_operators_is_read_as_the_short_one(tmp_path):
    model = linear_model()
    for named in (*model.graph.node, *model.opset_import):
        named.domain = "ai.onnx"
    loaded = load_model(saved(model, tmp_path))
    assert loaded.opset_imports == {"": 17}
    assert {node.domain for node in loaded.graph} == {""}


# What survives


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "cifar10/resnet20_dynamo.onnx",
        "forms/trap_function_protos.onnx",
        "forms/trap_if_loop_scan.onnx",
        "forms/trap_ir3_inputs.onnx",
        "forms/trap_names.onnx",
        "forms/trap_sparse_weights.onnx",
        "forms/trap_storage_forms.onnx",
        "real/mnist_cntk_op8.onnx",
        "real/ppocrv3_det_en.onnx",
        "real/squeezenet_winml.onnx",
    ],
)
def test_an_untouched_model_is_written_as_it_was(tmp_path, name):
    before = onnx.load(SHARED / name)
    save_model(load_model(SHARED / name), tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx")
    for field in ("ir_version", "producer_name", "producer_version", "domain", "metadata_props"):
        assert getattr(after, field) == getattr(before, field)
    for field in ("name", "input", "output", "initializer", "sparse_initializer"):
        assert getattr(after.graph, field) == getattr(before.graph, field)
    assert {(o.domain, o.version) for o in after.opset_import} == {
        (o.domain, o.version) for o in before.opset_import
    }
    assert [n.op_type for n in after.graph.node] == [n.op_type for n in before.graph.node]
    assert [n.name for n in after.graph.node] == [n.name for n in before.graph.node]
    # The dozen bytes are fields that are written though empty.
    size = (SHARED / name).stat().st_size
    assert (tmp_path / "out.onnx").stat().st_size <= size + 16


def test_weights_are_read_written_and_read_back(tmp_path):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    model = load_model(tmp_path / "model.onnx")
    pruned = np.where(np.arange(16 * 24).reshape(16, 24) % 2, 0.0, 1.5)
    write_tensors(model, {"w": pruned})
    save_model(model, tmp_path / "out.onnx")
    written = onnx.load(tmp_path / "out.onnx")
    array = numpy_helper.to_array(written.graph.initializer[0])
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, pruned)
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    x = np.ones((3, 16), np.float32)
    np.testing.assert_allclose(run(tmp_path / "out.onnx", x), x @ pruned.astype(np.float32))


def test_a_wrong_shape_or_name_is_an_error(tmp_path):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    model = load_model(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="shape"):
        write_tensors(model, {"w": np.zeros((24, 16))})
    with pytest.raises(KeyError):
        read_tensors(model, ["no such tensor"])


@needs_shared
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("trap_storage_forms", "F"),
        ("trap_storage_forms", "H"),
        ("trap_storage_forms", "BF"),
        ("trap_storage_forms", "vf"),
        ("trap_sparse_weights", "SW"),
        ("trap_sparse_weights", "CW"),
        ("trap_function_protos", "fn:loc.Inner:W"),
        ("trap_if_loop_scan", "/i.else_branch:Wel"),
        ("trap_if_loop_scan", "/i.then_branch:Wth"),
        ("trap_if_loop_scan", "/l.body:Wl"),
        ("trap_ir3_inputs", "W1"),
        ("trap_names", "конв/вес:0"),
    ],
)
def test_a_tensor_keeps_its_type_and_place_wherever_it_is_stored(tmp_path, name, key):
    model = load_model(FORMS / f"{name}.onnx")
    before = read_tensors(model, [key])[key].copy()
    halved = before.astype(np.float32) / 2
    write_tensors(model, {key: halved})
    save_model(model, tmp_path / "out.onnx")
    after = read_tensors(load_model(tmp_path / "out.onnx"), [key])[key]
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after.astype(np.float32), halved)
    original = onnx.load(FORMS / f"{name}.onnx")
    written = onnx.load(tmp_path / "out.onnx")
    assert len(written.graph.initializer) == len(original.graph.initializer)
    assert len(written.graph.sparse_initializer) == len(original.graph.sparse_initializer)
    assert [n.op_type for n in written.graph.node] == [n.op_type for n in original.graph.node]
    ort.InferenceSession(tmp_path / "out.onnx")


@needs_shared
def test_a_sparse_initializer_shrinks_as_its_weights_do(tmp_path):
    model = load_model(FORMS / "trap_sparse_weights.onnx")
    save_model(model, tmp_path / "same.onnx")
    weight = read_tensors(model, ["SW"])["SW"].copy()
    weight[np.flatnonzero(weight.any(axis=1))[0]] = 0
    write_tensors(model, {"SW": weight})
    save_model(model, tmp_path / "sparser.onnx")
    stored = onnx.load(tmp_path / "sparser.onnx").graph.sparse_initializer[0]
    assert stored.values.dims[0] == np.count_nonzero(weight)
    assert (tmp_path / "sparser.onnx").stat().st_size < (tmp_path / "same.onnx").stat().st_size


def test_bfloat16_weights_are_rounded_to_bfloat16(tmp_path):
    weight = np.ones((16, 24), ml_dtypes.bfloat16)
    onnx.save(linear_model(weight), tmp_path / "model.onnx")
    model = load_model(tmp_path / "model.onnx")
    write_tensors(model, {"w": np.full((16, 24), 1.001, np.float32)})
    assert read_tensors(model, ["w"])["w"].dtype == ml_dtypes.bfloat16
    assert (read_tensors(model, ["w"])["w"] == 1).all()


def test_a_serialized_model_runs_without_its_files(tmp_path):
    path = with_external_data(tmp_path)
    x = np.ones((2, 16), np.float32)
    expected = run(path, x)
    content = serialize(load_model(path))
    (tmp_path / "weights.bin").unlink()
    actual = ort.InferenceSession(content).run(None, {"x": x})[0]
    np.testing.assert_array_equal(actual, expected)


# External data


def test_external_data_stays_external_and_becomes_one_file_beside_the_output(tmp_path):
    path = with_external_data(tmp_path)
    model = load_model(path)
    write_tensors(model, {"w": np.full((16, 24), 2.0)})
    out = tmp_path / "out"
    out.mkdir()
    save_model(model, out / "small.onnx")
    assert files(out) == {"small.onnx", "small.onnx.data"}
    assert (out / "small.onnx.data").stat().st_size == 16 * 24 * 4
    x = np.ones((2, 16), np.float32)
    np.testing.assert_allclose(run(out / "small.onnx", x), np.full((2, 24), 32.0))


def test_overwriting_the_file_the_model_was_loaded_from(tmp_path):
    path = with_external_data(tmp_path)
    x = np.ones((2, 16), np.float32)
    expected = run(path, x)
    model = load_model(path)
    for _ in range(3):
        save_model(model, path)
        np.testing.assert_array_equal(run(path, x), expected)
        # What is in memory is still whole, and one data file of the model's own is left.
        np.testing.assert_array_equal(
            read_tensors(model, ["w"])["w"], read_tensors(load_model(path), ["w"])["w"]
        )
        assert len(files(tmp_path) - {"weights.bin"}) == 2


def test_a_model_and_its_data_match_whenever_the_writer_dies(tmp_path, monkeypatch):
    path = with_external_data(tmp_path)
    save_model(load_model(path), path)
    x = np.ones((2, 16), np.float32)
    expected = run(path, x)
    model = load_model(path)
    write_tensors(model, {"w": np.zeros((16, 24))})

    class Killed(BaseException):
        pass

    moves = []

    def die_at_the_model(source, target):
        if Path(target) == path:
            raise Killed
        moves.append(target)
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", die_at_the_model)
    with pytest.raises(Killed):
        save_model(model, path)
    monkeypatch.undo()
    assert moves
    np.testing.assert_array_equal(run(path, x), expected)
    save_model(model, path)
    assert not run(path, x).any()
    # What the killed writer left is not known to be its own.
    left = {"model.onnx.1.data"}
    assert files(tmp_path) - {"weights.bin"} - left == {"model.onnx", "model.onnx.2.data"}


@pytest.mark.parametrize("name", ["out.onnx", "out.pb", "out"])
def test_saving_again_and_again_leaves_one_data_file(tmp_path, name: str):
    source = with_external_data(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    x = np.ones((2, 16), np.float32)
    for _ in range(3):
        save_model(load_model(source), out / name)
        assert len(files(out)) == 2
        np.testing.assert_array_equal(run(out / name, x), run(source, x))


def test_saving_over_a_model_leaves_the_data_of_its_copy(tmp_path):
    model = load_model(with_external_data(tmp_path))
    save_model(model, tmp_path / "a.onnx")
    (tmp_path / "copy.onnx").write_bytes((tmp_path / "a.onnx").read_bytes())
    x = np.ones((2, 16), np.float32)
    expected = run(tmp_path / "copy.onnx", x)
    write_tensors(model, {"w": np.zeros((16, 24))})
    save_model(model, tmp_path / "a.onnx")
    assert not run(tmp_path / "a.onnx", x).any()
    np.testing.assert_array_equal(run(tmp_path / "copy.onnx", x), expected)


def test_a_model_too_large_for_one_file_is_written_with_external_data(tmp_path, monkeypatch):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    model = load_model(tmp_path / "model.onnx")
    monkeypatch.setattr("onnx_unipts.graph.model.size.PROTOBUF_LIMIT", 1000)
    with pytest.raises(UnsupportedModelError, match="external data"):
        serialize(model)
    save_model(model, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").stat().st_size == 16 * 24 * 4
    x = np.ones((2, 16), np.float32)
    expected = run(tmp_path / "model.onnx", x)
    np.testing.assert_array_equal(run(tmp_path / "out.onnx", x), expected)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_loading_external_data_does_not_read_it_all_at_once(tmp_path):
    """A data file of 4 GB full of holes: mapped, it costs neither time nor memory."""
    rows, columns = 2**15, 2**15
    model = linear_model(np.zeros((16, 24), np.float32))
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.dims[:] = [rows, columns]
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", str(rows * columns * 4))):
        weight.external_data.add(key=key, value=value)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "w.bin").touch()
    os.truncate(tmp_path / "w.bin", rows * columns * 4)
    program = (
        "import pathlib, sys\n"
        "from onnx_unipts.graph.model import load_model, read_tensors\n"
        "model = load_model(sys.argv[1])\n"
        "assert not read_tensors(model, ['w'])['w'][-1].any()\n"
        "status = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in status if line.startswith('VmHWM')))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400_000  # kB


# Writing


def test_a_directory_as_output_is_a_usage_error(tmp_path):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="is a directory"):
        save_model(load_model(tmp_path / "model.onnx"), tmp_path)


def test_an_output_in_no_directory_is_a_usage_error(tmp_path):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="no directory"):
        save_model(load_model(tmp_path / "model.onnx"), tmp_path / "nowhere" / "out.onnx")


def test_a_device_as_output_is_a_usage_error(tmp_path):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="not a regular file"):
        save_model(load_model(tmp_path / "model.onnx"), os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("external", [False, True])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, external):
    if external:
        source = with_external_data(tmp_path)
    else:
        source = tmp_path / "model.onnx"
        onnx.save(linear_model(), source)
    model = load_model(source)
    out = tmp_path / "out"
    out.mkdir()
    (out / "out.onnx").write_bytes(b"what was there")

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OnnxUniptsError, match="No space left on device") as error:
        save_model(model, out / "out.onnx")
    assert error.value.exit_code == 1
    assert files(out) == {"out.onnx"}
    assert (out / "out.onnx").read_bytes() == b"what was there"


def test_a_killed_writer_leaves_no_half_written_model(tmp_path):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    program = (
        "import os, signal, sys\n"
        "from onnx_unipts.graph.model import load_model, save_model\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save_model(load_model(sys.argv[1]), sys.argv[2])\n"
    )
    out = tmp_path / "out.onnx"
    command = [sys.executable, "-c", program, str(tmp_path / "model.onnx"), str(out)]
    assert subprocess.run(command).returncode == -9
    assert not out.exists()
    save_model(load_model(tmp_path / "model.onnx"), out)
    assert files(tmp_path) == {"model.onnx", "out.onnx"}


def test_the_mode_of_an_overwritten_file_and_a_link_to_it_stay(tmp_path):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    os.chmod(tmp_path / "model.onnx", 0o640)
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    save_model(load_model(tmp_path / "link.onnx"), tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert stat.S_IMODE((tmp_path / "model.onnx").stat().st_mode) == 0o640


def test_the_same_model_gives_the_same_bytes(tmp_path):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    for name in ("first.onnx", "second.onnx"):
        save_model(load_model(tmp_path / "model.onnx"), tmp_path / name)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


# Values that are not finite


def test_nan_is_found_and_infinity_only_where_it_is_asked_for(tmp_path):
    weight = np.ones((16, 24), np.float32)
    weight[3, 4] = np.inf
    onnx.save(linear_model(weight), tmp_path / "model.onnx")
    model = load_model(tmp_path / "model.onnx")
    assert find_nonfinite(model) is None
    assert find_nonfinite(model, ["w"]) == "w"
    weight[3, 4] = np.nan
    write_tensors(model, {"w": weight})
    assert find_nonfinite(model) == "w"


def test_nodes_may_stand_in_any_order(tmp_path):
    model = perceptron()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    loaded = load_model(saved(model, tmp_path))
    assert [node.outputs[0].name for node in loaded.graph] == ["a", "b", "c", "d", "y"]


def test_nodes_that_read_from_each_other_in_a_circle_are_refused(tmp_path):
    model = perceptron()
    model.graph.node[0].input[0] = "c"
    with pytest.raises(UnsupportedModelError, match="in a circle"):
        load_model(saved(model, tmp_path))
