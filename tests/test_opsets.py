"""Every opset from 7 to 26, with operators in the forms of the time, is compressed as such."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_networks import draw

from onnx_unipts import api, measurement

# In these no operator of the model has another form than in the opset before.
UNCHANGED = (15, 16, 17, 20, 22, 25)

pytestmark = pytest.mark.usefixtures("quick_simplification")


class Era:
    """A graph in the forms that operators have in one opset."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, np.ndarray] = {}

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def listed(self, operator: str, since: int, x: str, key: str, values: Sequence[int]) -> str:
        """Add an operator whose list of integers is an input ``since`` an opset."""
        if self.opset < since:
            return self(operator, x, **{key: values})
        return self(operator, x, self.constant(np.array(values, np.int64)))

    def constant(self, array: np.ndarray) -> str:
        self.tensors[f"constant_{len(self.tensors)}"] = array
        return f"constant_{len(self.tensors) - 1}"

    def dropout(self, x: str) -> str:
        if self.opset < 12:
            return self("Dropout", x, ratio=0.3)
        return self("Dropout", x, self.constant(np.float32(0.3)))

    def clip(self, x: str) -> str:
        if self.opset < 11:
            return self("Clip", x, min=0.0, max=6.0)
        limits = (self.constant(np.float32(limit)) for limit in (0, 6))
        return self("Clip", x, *limits)

    def enlarge(self, x: str) -> str:
        scales = np.array([1, 1, 2, 2], np.float32)
        if self.opset < 9:
            return self("Upsample", x, scales=scales, mode="nearest")
        if self.opset < 11:
            return self("Upsample" if self.opset < 10 else "Resize", x, self.constant(scales))
        roi = self.constant(np.zeros(0, np.float32))
        return self("Resize", x, roi, self.constant(scales), mode="nearest")

    def shrink(self, x: str) -> str:
        if self.opset < 10:
            return self("Slice", x, axes=[2, 3], starts=[1, 1], ends=[7, 7])
        numbers = ([1, 1], [7, 7], [2, 3])
        return self("Slice", x, *(self.constant(np.array(n, np.int64)) for n in numbers))


def model(opset: int, ir_version: int, *, listed: bool) -> onnx.ModelProto:
    """Return convolutions and a Gemm; ``listed`` names initializers among the inputs, too."""
    net = Era(opset)
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    net.tensors |= draw(0, w1=(8, 3, 3, 3), w2=(8, 8, 3, 3), w3=(4, 8), b3=(4,))
    net.tensors |= {"scale": ones, "bias": zeros + 0.1, "mean": zeros, "var": ones}
    x = net("Conv", "x", "w1", pads=[1, 1, 1, 1])
    x = net("BatchNormalization", x, "scale", "bias", "mean", "var")
    x = net.clip(x)
    x = net.shrink(net.enlarge(x))
    x = net.listed("Pad", 11, x, "pads", [0, 0, 1, 1, 0, 0, 1, 1])
    x = net("Relu", net("Conv", x, "w2"))
    x = net.listed("ReduceMean", 18, x, "axes", [2, 3])
    x = net.listed("Squeeze", 13, x, "axes", [2, 3])
    x = net.dropout(x)
    x = net("Gemm", x, "w3", "b3", transB=1)
    x = net("Reshape", x, net.constant(np.array([-1, 4], np.int64)))
    x = net("Softmax", x, axis=1)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])]
    stored = [numpy_helper.from_array(np.asarray(t), name) for name, t in net.tensors.items()]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in stored]
    ends = [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", 4])]
    graph = helper.make_graph(net.nodes, "net", inputs, ends, stored)
    opsets = [helper.make_opsetid("", opset)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    onnx.checker.check_model(made)
    return made


@pytest.mark.parametrize(
    "opset",
    [pytest.param(n, marks=pytest.mark.long if n in UNCHANGED else ()) for n in range(7, 27)],
)
def test_every_opset_is_pruned_exactly_trained_and_kept(
    opset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(measurement, "REPORT_SECONDS", 0.0)
    ir_version = max(ir for _, ir, known, *_ in helper.VERSION_TABLE if known <= opset)
    path = tmp_path / "m.onnx"
    onnx.save(model(opset, ir_version, listed=ir_version < 4), path)
    settings = {"training.epochs": 1, "allocation.method": "lamp", "num_samples": 32}
    result = api.compress(path, sparsity=0.5, settings=settings, jobs=1)
    assert result.report["sparsity"]["zeros"] == (8 * 3 * 9 + 8 * 8 * 9 + 4 * 8) // 2
    assert result.report["training"]["untrained"] == []
    fidelity = result.report["fidelity"]
    assert fidelity["after_recovery"]["divergence"] < fidelity["before_recovery"]["divergence"]
    sparse, dense = (onnx.load(str(file)) for file in (result.output, path))
    assert sparse.ir_version == dense.ir_version
    assert sparse.opset_import == dense.opset_import
    assert sparse.graph.output == dense.graph.output
    # Below IR version 4 a bias that a convolution gets has to be an input as well.
    inputs, stored = list(sparse.graph.input), {t.name for t in sparse.graph.initializer}
    added = {value.name for value in inputs[len(dense.graph.input) :]}
    assert inputs[: len(dense.graph.input)] == list(dense.graph.input)
    assert added <= stored if ir_version < 4 else not added
    onnx.checker.check_model(sparse)
