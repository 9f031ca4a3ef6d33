"""The file formats: what each writes, what it refuses, and that it computes the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from small_networks import (
    CLASSIFIER,
    NORMALIZED,
    classifier,
    classifier_tensors,
    images,
    network,
    outputs,
    saved,
)

import onnx_unipts
from onnx_unipts import api
from onnx_unipts.cli import main
from onnx_unipts.export import FORMATS, Storage, choose_storage
from onnx_unipts.export.qdq import quantize
from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.model import is_ort_format, load_model, serialize
from onnx_unipts.training.ort import file_session

pytestmark = pytest.mark.usefixtures("quick_simplification")

MODELS = Path(__file__).parents[2] / "shared" / "models"
UNTRAINED: dict[str, Any] = {
    "training.adaptation": 0,
    "training.epochs": 0,
    "training.batch_size": 16,
    "allocation.method": "lamp",
}


def wide(normalized: bool = False, sparsity: float = 0.9) -> onnx.ModelProto:
    """Return a network of sparse weights that are large beside their names."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (64, 3, 3, 3), "w2": (64, 64, 3, 3), "w3": (4, 64)}
    tensors = {n: rng.standard_normal(s).astype(np.float32) * 0.1 for n, s in shapes.items()}
    for tensor in tensors.values():
        tensor[rng.random(tensor.shape) < sparsity] = 0
    tensors["b3"] = rng.standard_normal(4).astype(np.float32)
    for part in ("1", "2"):
        tensors[f"b{part}"] = rng.standard_normal(64).astype(np.float32)
        if normalized:
            tensors[f"s{part}"] = rng.uniform(-1.5, 1.5, 64).astype(np.float32)
            tensors[f"m{part}"] = rng.standard_normal(64).astype(np.float32)
            tensors[f"v{part}"] = rng.uniform(0.5, 1.5, 64).astype(np.float32)
    return network(NORMALIZED if normalized else CLASSIFIER, tensors)


def written(model: onnx.ModelProto, directory: Path, storage: Storage) -> Path:
    source = saved(model, directory, "source.onnx")
    exporter = FORMATS[storage.format]()
    output = directory / f"written{exporter.suffix}"
    loaded = load_model(source)
    exporter.check(loaded)
    exporter.write(loaded, output, storage)
    return output


def answers(path: Path) -> np.ndarray:
    return file_session(path).run(None, {"x": images(4)})[0]


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_format_stores_less_and_computes_the_same(name: str, normalized: bool, tmp_path: Path):
    model = wide(normalized)
    output = written(model, tmp_path, Storage(name))
    source = tmp_path / "source.onnx"
    ours, theirs = answers(output), answers(source)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
    if name != "dense":
        assert output.stat().st_size < 0.4 * source.stat().st_size
    if name == "packed":
        assert ours.tobytes() == theirs.tobytes()


def test_sparse_initializers_have_the_indices_that_the_checker_wants(tmp_path: Path):
    output = written(wide(), tmp_path, Storage("sparse-initializer"))
    model = onnx.load(output)
    onnx.checker.check_model(model)
    assert {s.values.name for s in model.graph.sparse_initializer} >= {"w1", "w2"}
    for sparse in model.graph.sparse_initializer:
        assert sparse.indices.data_type == onnx.TensorProto.INT64


def test_beside_an_ort_file_lies_the_list_of_its_operators(tmp_path: Path):
    output = written(wide(normalized=True), tmp_path, Storage("ort"))
    assert is_ort_format(output)
    listed = (tmp_path / "written.required_operators.config").read_text()
    assert "Gemm" in listed
    assert "BatchNormalization" not in listed


def test_folding_keeps_the_zeros_and_their_sign(tmp_path: Path):
    from onnx_unipts.graph.normalization.merging import fold_normalizations

    source = saved(wide(normalized=True), tmp_path)
    model = load_model(source)
    zeros = {n: int((v.const_value.numpy() == 0).sum()) for n, v in initializers(model)}
    assert fold_normalizations(model) == 2
    for name, value in initializers(model):
        array = value.const_value.numpy()
        if name in ("w1", "w2"):
            assert (array == 0).sum() == zeros[name]
            assert not np.signbit(array[array == 0]).any()


@pytest.mark.parametrize(("scale", "count"), [(1.0, 1), (0.0, 1), (1e-5, 0), (6e4, 0)])
def test_what_half_precision_cannot_hold_is_not_folded(scale: float, count: int, tmp_path: Path):
    from onnx_unipts.graph.normalization.merging import fold_normalizations

    text = """net (float16[N,3,8,8] x) => (float16[N,4,6,6] y) {
        c = Conv (x, w)
        y = BatchNormalization (c, s, b, m, v)
    }"""
    weights = np.random.default_rng(0).uniform(-2, 2, (4, 3, 3, 3))
    weights[0] *= 1e-3
    vectors = {"s": np.full(4, scale), "b": np.ones(4), "m": np.zeros(4), "v": np.ones(4)}
    tensors = {n: t.astype(np.float16) for n, t in (vectors | {"w": weights}).items()}
    model = load_model(saved(network(text, tensors), tmp_path))
    assert fold_normalizations(model) == count
    left = {"w", "y/bias"} if count else set(tensors)
    assert {name for name, _ in initializers(model)} == left


def test_the_bias_of_a_folded_normalisation_gets_a_name_that_is_free(tmp_path: Path):
    from onnx_unipts.graph.normalization.merging import fold_normalizations

    model = load_model(saved(wide(normalized=True), tmp_path))
    (before,) = run(model)
    next(node for node in model.graph if node.op_type == "Flatten").outputs[0].name = "n1/bias"
    assert fold_normalizations(model) == 2
    np.testing.assert_allclose(run(model)[0], before, rtol=1e-3, atol=1e-4)


def run(model: Any) -> list[np.ndarray]:
    return outputs(serialize(model), {"x": images(2)})


def initializers(model: Any) -> list[tuple[str, Any]]:
    return list(model.graph.initializers.items())


# Compressing


def test_the_report_says_how_a_file_is_packed_and_how_small_it_could_be(tmp_path: Path):
    source = saved(wide(sparsity=0.0), tmp_path)
    result = api.compress(
        source, sparsity=0.9, data={"x": images()}, settings=UNTRAINED, jobs=2, format="packed"
    )
    assert result.output == tmp_path / "m.sparse.onnx"
    storage = result.report["storage"]
    assert (storage["format"], storage["pack"], storage["values"]) == ("packed", "delta8", "stored")
    assert {weight["kind"] for weight in storage["weights"]} == {"delta8"}
    dense, sparse = result.report["model"]["bytes"], result.report["output"]["bytes"]
    assert storage["bytes_entropy_bound"] < sparse < 0.25 * dense
    zeros = sum(
        int((value.const_value.numpy() == 0).sum())  # type: ignore[union-attr]
        for name, value in load_model(result.output).graph.initializers.items()
        if name in ("w1", "w2", "w3")
    )
    removed = result.report["sparsity"]["weights"] - sum(
        value.const_value.numpy().size  # type: ignore[union-attr]
        for name, value in load_model(result.output).graph.initializers.items()
        if name in ("w1", "w2", "w3")
    )
    assert zeros + removed >= result.report["sparsity"]["zeros"]


@pytest.mark.parametrize("name", ["packed", "dense", "sparse-initializer", "ort"])
def test_compress_writes_every_format(name: str, tmp_path: Path):
    source = saved(wide(sparsity=0.0), tmp_path)
    result = api.compress(
        source, sparsity=0.9, data={"x": images()}, settings=UNTRAINED, jobs=2, format=name
    )
    assert result.output is not None
    assert result.output.name == f"m.sparse.{'ort' if name == 'ort' else 'onnx'}"
    assert result.report["fidelity"]["after_recovery"]["agreement"] is not None
    assert result.report["sparsity"]["achieved"] == pytest.approx(0.9, abs=1e-3)


def test_values_in_half_precision_make_the_file_smaller(tmp_path: Path):
    sizes = []
    for values in ("stored", "float16"):
        (tmp_path / values).mkdir()
        result = api.compress(
            saved(wide(sparsity=0.0), tmp_path / values),
            sparsity=0.9, data={"x": images()}, settings=UNTRAINED, jobs=2,
            format="packed", pack="smallest", values=values,
        )  # fmt: skip
        sizes.append(result.report["output"]["bytes"])
        assert result.report["sparsity"]["achieved"] == pytest.approx(0.9, abs=1e-3)
    assert sizes[1] < 0.75 * sizes[0]


def test_a_packed_model_can_be_compressed_further(tmp_path: Path):
    source = saved(wide(sparsity=0.5), tmp_path)
    onnx_unipts.pack(source, tmp_path / "packed.onnx")
    result = api.compress(
        tmp_path / "packed.onnx", sparsity=0.9, data={"x": images()}, settings=UNTRAINED, jobs=2
    )
    assert result.report["sparsity"]["achieved"] == pytest.approx(0.9, abs=1e-3)


def test_an_old_opset_is_written_dense_and_refused_with_the_remedy_when_asked(tmp_path: Path):
    model = network(CLASSIFIER, classifier_tensors(), opset=9, ir_version=6)
    source = saved(model, tmp_path)
    options: dict[str, Any] = {"data": {"x": images()}, "settings": UNTRAINED, "jobs": 2}
    result = api.compress(source, sparsity=0.8, **options)
    assert any("dense" in warning and "opset 9" in warning for warning in result.report["warnings"])
    assert result.report["storage"]["format"] == "dense"
    for name in ("packed", "sparse-initializer"):
        with pytest.raises(UnsupportedModelError, match=r"opset 9 .*opset 11 or newer") as raised:
            api.compress(source, sparsity=0.8, format=name, **options)
        assert str(source) in str(raised.value)


def with_a_hole(directory: Path) -> Path:
    """Write a matrix product whose weights take 2.2 GB, all of them a hole in the data file."""
    rows, columns = 20_000, 27_500
    weight = onnx.TensorProto(
        name="w",
        data_type=onnx.TensorProto.FLOAT,
        dims=(rows, columns),
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, value in (("location", "m.bin"), ("length", str(4 * rows * columns))):
        weight.external_data.add(key=key, value=value)
    with (directory / "m.bin").open("wb") as data:
        data.truncate(4 * rows * columns)
    text = f"net (float[N,{rows}] x) => (float[N,{columns}] y) {{ y = MatMul (x, w) }}"
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    model = onnx.parser.parse_model(f"{header} {text}")
    model.graph.initializer.append(weight)
    return saved(model, directory)


@pytest.mark.parametrize(
    ("format", "ending"), [("ort", "ort"), ("sparse-initializer", "onnx"), ("packed", "onnx")]
)
def test_a_format_of_one_file_refuses_two_gigabytes(format: str, ending: str, tmp_path: Path):
    path = with_a_hole(tmp_path)
    model = load_model(path)
    if format == "packed":
        storage, warning = choose_storage(model, path, tmp_path / "out.onnx", format)
        assert (storage.format, warning) == ("packed", "")
        return
    with pytest.raises(UnsupportedModelError, match=r"m\.onnx: 2\.2 GB .*use --format packed"):
        choose_storage(model, path, tmp_path / f"out.{ending}", format)


def test_two_gigabytes_cannot_be_quantised(tmp_path: Path):
    with pytest.raises(UnsupportedModelError, match=r"more than 2 GB, .*leave out --quantize"):
        quantize(load_model(with_a_hole(tmp_path)), [])


@pytest.mark.parametrize("opset", [11, 12])
def test_an_old_opset_is_raised_to_be_quantised(opset: int, tmp_path: Path):
    model = network(CLASSIFIER, classifier_tensors(), opset=opset, ir_version=6)
    result = api.compress(
        saved(model, tmp_path), sparsity=0.8, data={"x": images()}, settings=UNTRAINED, jobs=2,
        quantize="int8",
    )  # fmt: skip
    assert onnx.load(str(result.output)).opset_import[0].version == 13


def test_what_is_quantised_already_is_not_quantised_again(tmp_path: Path):
    source = saved(wide(sparsity=0.0), tmp_path)
    options: dict[str, Any] = {"data": {"x": images()}, "settings": UNTRAINED, "jobs": 2}
    result = api.compress(source, sparsity=0.9, quantize="int8", **options)
    assert result.output is not None
    with pytest.raises(UnsupportedModelError, match="integers already; leave out --quantize"):
        api.compress(result.output, sparsity=0.95, quantize="int8", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "nonesuch"}, "unknown format 'nonesuch'; known: dense, ort, packed"),
        ({"pack": "nonesuch"}, "--pack 'nonesuch' is unknown; known: .*smallest"),
        ({"values": "float8"}, "--values 'float8' is unknown; known: stored, float16"),
        ({"format": "dense", "pack": "smallest"}, "are for --format packed"),
        ({"format": "ort", "output": "m.sparse.onnx"}, r"ends in \.ort"),
        ({"format": "packed", "output": "m.sparse.ort"}, r"ends in \.onnx"),
    ],
)
def test_choices_that_make_no_sense_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
):
    if "output" in options:
        options = {**options, "output": tmp_path / options["output"]}
    with pytest.raises(UsageError, match=message):
        api.compress(
            saved(classifier(), tmp_path), sparsity=0.8, data={"x": images()}, jobs=2,
            settings=UNTRAINED, **options,
        )  # fmt: skip


# Commands


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_pack_and_unpack_give_the_same_file_back(tmp_path: Path):
    source = saved(wide(), tmp_path)
    packing = invoke("pack", source, "--json")
    assert packing.exit_code == 0, packing.output
    document = json.loads(packing.stdout)
    packed = tmp_path / "m.packed.onnx"
    assert document["output"]["bytes"] == packed.stat().st_size < 0.3 * source.stat().st_size
    assert invoke("unpack", packed, "-o", tmp_path / "back.onnx").exit_code == 0
    ours, theirs = (
        {t.name: onnx.numpy_helper.to_array(t).tobytes() for t in onnx.load(path).graph.initializer}
        for path in (tmp_path / "back.onnx", source)
    )
    assert ours == theirs
    assert list(ours) == list(theirs)


def test_packing_twice_changes_the_encoding(tmp_path: Path):
    source = saved(wide(), tmp_path)
    invoke("pack", source)
    again = invoke("pack", tmp_path / "m.packed.onnx", "--pack", "bitmask", "--json")
    kinds = {weight["kind"] for weight in json.loads(again.stdout)["weights"]}
    assert "bitmask" in kinds
    assert answers(tmp_path / "m.packed.packed.onnx").tobytes() == answers(source).tobytes()


@pytest.mark.parametrize("command", ["pack", "unpack"])
def test_what_there_is_nothing_to_do_for_comes_out_as_it_is(command: str, tmp_path: Path):
    source = saved(wide(sparsity=0.0), tmp_path)
    result = invoke(command, source)
    assert result.exit_code == 0
    assert "written as it is" in result.stdout
    assert (tmp_path / f"m.{command}ed.onnx").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("command", ["unpack", "evaluate", "inspect"])
def test_a_damaged_file_is_refused_in_one_line(command: str, tmp_path: Path):
    source = saved(wide(), tmp_path)
    invoke("pack", source)
    packed = tmp_path / "m.packed.onnx"
    model = onnx.load(packed)
    for tensor in model.graph.initializer:
        if tensor.name == "pk1c":
            array = np.full_like(onnx.numpy_helper.to_array(tensor), 255)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, packed)
    result = invoke(command, *([source] if command == "evaluate" else []), packed)
    assert result.exit_code == 4
    assert "damaged" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_ort_file_cannot_be_unpacked(tmp_path: Path):
    output = written(wide(), tmp_path, Storage("ort"))
    result = invoke("unpack", output)
    assert result.exit_code == 4
    assert "ORT format" in result.stderr


# Other runtimes


@pytest.mark.long
@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the models beside the checkout")
@pytest.mark.parametrize("name", ["onnxruntime 1.16", "onnxruntime, newest", "openvino"])
@pytest.mark.parametrize("model", ["cifar10/resnet20_folded.onnx", "imagenet/mobilenetv2.onnx"])
def test_other_runtimes_compute_the_same_bits(
    name: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import runtimes

    try:
        python = runtimes.interpreter(name)
    except (OSError, RuntimeError) as error:
        pytest.skip(f"{name} cannot be installed: {error}")
    files, feeds = runtimes.write_files(MODELS / model, 0.9, tmp_path)
    library = "openvino" if name == "openvino" else "onnxruntime"
    result = runtimes.compare(python, library, list(files.values()), feeds, rounds=2)
    assert all(result["equal"]), result
    sys.modules.pop("runtimes")


def test_what_goes_with_dead_channels_is_counted(tmp_path: Path):
    tensors = classifier_tensors()
    tensors["w2"][:, :4] = 0  # nothing reads half of the first layer's channels
    source = saved(network(CLASSIFIER, tensors), tmp_path)
    result = api.compress(
        source, sparsity=0.5, data={"x": images()}, settings=UNTRAINED, jobs=2,
    )  # fmt: skip
    assert result.output is not None
    stored = load_model(result.output).graph.initializers["w1"].const_value
    assert stored is not None
    told = result.report["dead_channels"]
    gone = result.report["sparsity"]["per_layer"][0]["count"] - stored.size
    assert 0 < told["weights"] <= gone
    counted = api.evaluate(source, result.output, data={"x": images()}, jobs=1)["sparsity"]
    assert counted["zeros"] == result.report["sparsity"]["zeros"] + told["weights"]
    measured = onnx_unipts.benchmark(source, result.output, data={"x": images()}, seconds=0.1)
    bound = result.report["storage"]["bytes_entropy_bound"]
    assert bound == measured["bytes_entropy_bound"]


# Quantising


def test_quantised_zeros_stay_zero_and_pack(tmp_path: Path):
    source = saved(wide(sparsity=0.0), tmp_path)
    sizes = {}
    for name in ("dense", "packed"):
        result = api.compress(
            source, sparsity=0.9, data={"x": images()}, settings=UNTRAINED, jobs=2, format=name,
            output=tmp_path / f"{name}.onnx", quantize="int8",
        )  # fmt: skip
        sizes[name] = result.report["output"]["bytes"] / result.report["model"]["bytes"]
    report = result.report
    assert sizes["packed"] < 0.09 < 0.25 < sizes["dense"] < 0.35
    assert answers(tmp_path / "packed.onnx").tobytes() == answers(tmp_path / "dense.onnx").tobytes()
    facts = {weight["name"]: weight for weight in report["quantization"]["weights"]}
    stored = load_model(tmp_path / "packed.onnx").graph.initializers
    for layer in report["sparsity"]["per_layer"]:
        integers = stored[f"{layer['name']}_quantized"].const_value
        assert integers is not None
        assert integers.dtype.name == "INT8"
        zeros = int((integers.numpy() == 0).sum())
        assert facts[layer["name"]]["zeros"] == zeros >= facts[layer["name"]]["pruned"]
        removed = layer["count"] - integers.numpy().size
        assert zeros + removed >= layer["zeros"]
    stages = report["fidelity"]
    assert stages["before_quantization"]["divergence"] < stages["after_recovery"]["divergence"]
    assert stages["after_recovery"]["agreement"] > 0.8
    assert report["quantization"]["samples"] == 48


def test_a_quantised_file_larger_than_the_dense_one_is_said_to_be(tmp_path: Path):
    options: dict[str, Any] = {"data": {"x": images()}, "settings": UNTRAINED, "quantize": "int8"}
    small = saved(network(CLASSIFIER, classifier_tensors()), tmp_path)
    told = api.compress(small, sparsity=0.8, **options).report
    assert told["output"]["bytes"] > told["model"]["bytes"]
    assert any("than it saves in so small a model" in text for text in told["warnings"])
    quiet = api.compress(saved(wide(sparsity=0.0), tmp_path), sparsity=0.9, **options).report
    assert not any("so small a model" in text for text in quiet["warnings"])


def test_a_quantised_file_is_evaluated_by_the_weights_it_was_made_from(tmp_path: Path):
    source = saved(wide(sparsity=0.0), tmp_path)
    result = api.compress(
        source, sparsity=0.9, data={"x": images()}, settings=UNTRAINED, jobs=2, quantize="int8"
    )
    assert result.output is not None
    counted = api.evaluate(source, result.output, data={"x": images()}, jobs=1)["sparsity"]
    assert counted["weights"] == result.report["sparsity"]["weights"]
    assert counted["zeros"] >= result.report["sparsity"]["zeros"]
    onnx_unipts.unpack(result.output, tmp_path / "plain.onnx")
    onnx_unipts.pack(tmp_path / "plain.onnx", tmp_path / "again.onnx")
    onnx_unipts.unpack(tmp_path / "again.onnx", tmp_path / "same.onnx")
    assert (tmp_path / "plain.onnx").read_bytes() == (tmp_path / "same.onnx").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int4"}, "--quantize 'int4' is unknown; known: int8"),
        ({"quantize": "int8", "values": "float16"}, "leave one out"),
    ],
)
def test_quantisation_that_makes_no_sense_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(UsageError, match=message):
        api.compress(
            saved(classifier(), tmp_path), sparsity=0.8, data={"x": images()}, jobs=2,
            settings=UNTRAINED, **options,
        )  # fmt: skip
