"""What is written runs, and replaces nothing before that is known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compression import UNTRAINED, compress
from onnx import TensorProto, helper, numpy_helper
from small_networks import (
    CLASSIFIER,
    classifier,
    classifier_tensors,
    draw,
    images,
    network,
    saved,
)

from onnx_unipts import api, conversion, finish, pack, unpack
from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError, UsageError
from onnx_unipts.graph.model import load_model
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.output_file import LONGEST_NAME, atomic_path

pytestmark = pytest.mark.usefixtures("quick_simplification")

X = {"x": np.random.default_rng(0).standard_normal((48, 8)).astype(np.float32)}


def outputs(path: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X["x"][:4]})


def pruned(path: Path, output: Path, **options: Any) -> api.Result:
    return api.compress(
        path, sparsity=0.9, data=X, jobs=1, settings=UNTRAINED, output=output, **options
    )


def test_what_fails_its_verification_leaves_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output = tmp_path / "out.onnx"
    output.write_bytes(b"a good result")

    def broken(*_: Any, **__: Any) -> None:
        raise OnnxUniptsError("it does not run")

    monkeypatch.setattr(finish, "verify_file", broken)
    with pytest.raises(OnnxUniptsError, match="it does not run"):
        compress(classifier(), tmp_path, UNTRAINED, output=output)
    assert output.read_bytes() == b"a good result"
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "out.onnx", "out.run"}


def test_a_model_that_cannot_run_quantised_is_refused_before_anything(tmp_path: Path):
    tensors = {name: value.astype(np.float16) for name, value in draw(0, w=(8, 64)).items()}
    half = network("net (float16[N,8] x) => (float16[N,64] y) { y = MatMul (x, w) }", tensors)
    path, output = saved(half, tmp_path), tmp_path / "out.onnx"
    output.write_bytes(b"a good result")
    with pytest.raises(UnsupportedModelError, match="leave out --quantize"):
        api.compress(
            path, sparsity=0.5, data={"x": X["x"].astype(np.float16)}, jobs=1,
            settings=UNTRAINED, output=output, quantize="int8",
        )  # fmt: skip
    assert output.read_bytes() == b"a good result"
    assert not (tmp_path / "out.run").exists()


@pytest.mark.parametrize("file_format", ["sparse-initializer", "ort"])
def test_a_weight_that_is_an_output_stays_a_tensor(tmp_path: Path, file_format: str):
    model = network(
        "net (float[N,8] x) => (float[N,64] y) { y = MatMul (x, w) }", draw(0, w=(8, 64))
    )
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 64]))
    output = tmp_path / ("o.ort" if file_format == "ort" else "o.onnx")
    pruned(saved(model, tmp_path), output, format=file_format)
    assert isinstance(outputs(output)[1], np.ndarray)
    assert (outputs(output)[1] == 0).mean() > 0.89


def branching() -> onnx.ModelProto:
    """Return a model whose If stands before the node that makes what its branches read."""
    branch = [helper.make_node(op, ["b"], ["r"]) for op in ("Relu", "Neg")]
    value = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    then, other = (helper.make_graph([node], node.op_type, [], [value]) for node in branch)
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
        helper.make_node("MatMul", ["x", "w"], ["b"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])],
        [
            numpy_helper.from_array(draw(0, w=(8, 64))["w"], "w"),
            numpy_helper.from_array(np.array(True), "c"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_nodes_stand_behind_what_their_branches_read(tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes(branching().SerializeToString())
    assert [node.op_type for node in load_model(path).graph] == ["MatMul", "If"]
    pruned(path, tmp_path / "o.onnx")
    pack(tmp_path / "o.onnx", tmp_path / "p.onnx")
    np.testing.assert_array_equal(outputs(tmp_path / "p.onnx")[0], outputs(tmp_path / "o.onnx")[0])


def test_quantised_inputs_and_outputs_are_those_of_the_model(tmp_path: Path):
    model = network(
        "net (float[N,8] x) => (float[rows,64] y) { y = MatMul (x, w) }", draw(0, w=(8, 64))
    )
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 64]))
    model.ir_version = 4
    result = pruned(saved(model, tmp_path), tmp_path / "o.onnx", quantize="int8")
    assert "quantised, inputs with a default are constants: w" in result.report["warnings"]
    made = onnx.load(tmp_path / "o.onnx")
    assert made.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "rows"
    model.ir_version = 3
    pruned(saved(model, tmp_path), tmp_path / "o.onnx", quantize="int8", format="dense")
    onnx.checker.check_model(onnx.load(tmp_path / "o.onnx"))


def test_facts_of_initializers_are_kept(tmp_path: Path):
    model = classifier()
    info = helper.make_tensor_value_info("w1", TensorProto.FLOAT, [8, 3, 3, 3])
    info.metadata_props.add(key="kind", value="parameter")
    model.graph.value_info.append(info)
    path = saved(model, tmp_path)
    pack(path, tmp_path / "p.onnx")
    unpack(tmp_path / "p.onnx", tmp_path / "u.onnx")
    kept = {i.name: i.metadata_props for i in onnx.load(tmp_path / "u.onnx").graph.value_info}
    assert [(prop.key, prop.value) for prop in kept["w1"]] == [("kind", "parameter")]


def test_facts_of_weights_that_are_pruned_and_trained_are_kept(tmp_path: Path):
    model = classifier()
    for tensor in model.graph.initializer:
        tensor.metadata_props.add(key="of", value=tensor.name)
        tensor.doc_string = f"the {tensor.name} of somebody"
    sparse = compress(model, tmp_path).output
    assert sparse is not None
    for before, after in zip(
        model.graph.initializer, onnx.load(sparse).graph.initializer, strict=True
    ):
        assert after.raw_data != before.raw_data
        assert (after.metadata_props, after.doc_string) == (
            before.metadata_props,
            before.doc_string,
        )


@pytest.mark.skipif(os.name != "posix", reason="of POSIX systems")
def test_links_and_modes_stay(tmp_path: Path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("before")
    real.chmod(0o600)
    link.symlink_to(real)
    with atomic_path(link) as temporary:
        temporary.write_text("after")
    assert link.is_symlink()
    assert real.read_text() == "after"
    assert real.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="of POSIX systems")
def test_a_link_to_nowhere_and_the_data_of_a_closed_file(tmp_path: Path):
    link = tmp_path / "link.onnx"
    link.symlink_to(tmp_path / "gone" / "x.onnx")
    with pytest.raises(UsageError, match="gone does not exist"):
        compress(classifier(), tmp_path, UNTRAINED, output=link)
    path = tmp_path / "e.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="w", size_threshold=0)
    for name in ("a.onnx.data", "a.onnx.1.data"):
        pack(path, tmp_path / "a.onnx")
        assert (tmp_path / name).exists()
        (tmp_path / "a.onnx").chmod(0o600)
    assert (tmp_path / "a.onnx.1.data").stat().st_mode & 0o777 == 0o600


def test_packing_that_fails_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(before: object, written: Path) -> None:
        raise OnnxUniptsError(f"{written}: does not come back")

    monkeypatch.setattr(conversion, "_verify", broken)
    sparse, output = compress(classifier(), tmp_path, UNTRAINED).output, tmp_path / "p.onnx"
    assert sparse is not None
    output.write_bytes(b"a good result")
    with pytest.raises(OnnxUniptsError, match=f"^{output}: does not"):
        pack(sparse, output)
    assert output.read_bytes() == b"a good result"


def test_too_long_a_name_is_refused_at_once(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    for name, refused in (("n" * (LONGEST_NAME - 5), False), ("n" * (LONGEST_NAME - 4), True)):
        if not refused:
            ort = tmp_path / f"n{name}.ort"
            assert compress(classifier(), tmp_path, UNTRAINED, output=ort, format="ort").output
        options: dict[str, Any] = {"data": {"x": images()}, "settings": UNTRAINED, "sparsity": 0.5}
        options |= {"output": tmp_path / f"{name}.onnx", "run_dir": tmp_path / "r"}
        if not refused:
            assert api.compress(path, **options).output is not None
            continue
        with pytest.raises(UsageError, match=f"longer than {LONGEST_NAME} bytes"):
            api.compress(path, **options)


def test_a_bias_that_an_old_model_gets_is_an_input_as_well(tmp_path: Path):
    tensors = {k: v for k, v in classifier_tensors().items() if k not in ("b1", "b2")}
    text = CLASSIFIER.replace("w1, b1", "w1").replace("w2, b2", "w2")
    shapes = ", ".join(f"float[{','.join(map(str, t.shape))}] {n}" for n, t in tensors.items())
    old = network(text.replace("] x)", f"] x, {shapes})"), tensors, opset=8, ir_version=3)
    result = compress(old, tmp_path)
    written = onnx.load(result.output)
    onnx.checker.check_model(written)
    names = {value.name for value in written.graph.input}
    assert {tensor.name for tensor in written.graph.initializer} <= names
    assert len(names) > len(old.graph.input)
