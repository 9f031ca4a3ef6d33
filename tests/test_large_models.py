"""Models over 2 GB are pruned by their path, weight after weight, and written the same way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from small_networks import perceptron, saved

from onnx_unipts import api
from onnx_unipts.graph.model import saving, size

LAYERS, WIDTH = 9, 8192


def with_external_data(model: onnx.ModelProto, directory: Path) -> Path:
    onnx.save(
        model, directory / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0
    )
    return directory / "m.onnx"


def generated(directory: Path) -> Path:
    """Write a chain of matrix products whose weights take 2.4 GB, one in memory at a time."""
    rng = np.random.default_rng(0)
    nodes, tensors = [], []
    with (directory / "m.bin").open("wb") as data:
        for layer in range(LAYERS):
            weight = rng.standard_normal((WIDTH, WIDTH), np.float32) / np.float32(90)
            tensor = onnx.TensorProto(
                name=f"w{layer}",
                data_type=onnx.TensorProto.FLOAT,
                dims=weight.shape,
                data_location=onnx.TensorProto.EXTERNAL,
            )
            for key, value in (
                ("location", "m.bin"),
                ("offset", str(data.tell())),
                ("length", str(weight.nbytes)),
            ):
                tensor.external_data.add(key=key, value=value)
            data.write(weight.tobytes())
            tensors.append(tensor)
            nodes.append(
                onnx.helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"])
            )
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", WIDTH])
        for name in ("x0", f"x{LAYERS}")
    ]
    graph = onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:], tensors)
    opset = [onnx.helper.make_opsetid("", 17)]
    return saved(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), directory)


def test_what_does_not_fit_one_file_is_pruned_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = with_external_data(perceptron(), tmp_path)
    monkeypatch.setattr(size, "PROTOBUF_LIMIT", 512)
    monkeypatch.setattr(saving, "EXTERNAL_THRESHOLD", 64)
    result = api.compress(path, sparsity=0.5, settings={"num_samples": 16}, jobs=1)
    assert result.report["training"]["untrained"] == ["w1", "w2"]
    assert any("2 GB" in text for text in result.report["warnings"])
    proto = onnx.load(str(result.output), load_external_data=False)
    stored = {t.name: t.data_location for t in proto.graph.initializer}
    assert stored["w1"] == onnx.TensorProto.EXTERNAL
    tensors = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load(str(result.output)).graph.initializer
    }
    dense = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert sum(int((tensors[name] == 0).sum()) for name in ("w1", "w2")) == 224 // 2
    for name in ("w1", "w2"):
        kept = tensors[name] != 0
        np.testing.assert_array_equal(tensors[name][kept], dense[name][kept])


@pytest.mark.long
def test_a_model_over_two_gigabytes_is_pruned_by_its_path(tmp_path: Path):
    path = generated(tmp_path)
    result = api.compress(path, sparsity=0.5, settings={"num_samples": 16}, jobs=1)
    assert result.report["sparsity"]["zeros"] == LAYERS * WIDTH * WIDTH // 2
    session = onnxruntime.InferenceSession(str(result.output), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x0": np.ones((1, WIDTH), np.float32)})
    assert np.isfinite(found).all()
    print(f"peak memory {result.report['memory_peak_bytes'] / 2**30:.1f} GiB")
